"""Folders of images as data sets: classes, conversions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.data.preprocessing import Resize
from edgecnn.data.sources import load_dataset
from edgecnn.errors import DataError

FIT = (1, 6, 5)


def folder(tmp_path, images):
    from PIL import Image

    for name, pixels in images.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return f"folder:{tmp_path}/set"


def grey(height=6, width=5, value=100):
    return np.full((height, width), value, np.uint8)


def test_folder_classes_order_and_conversion(tmp_path):
    colour = np.zeros((9, 7, 3), np.uint8)
    colour[..., 0] = 200
    spec = folder(tmp_path, {"dog/b.png": grey(), "dog/a.PNG": grey(8, 8, 50), "cat/deep/c.bmp": colour})
    (tmp_path / "set/dog/notes.txt").write_text("not an image")
    (tmp_path / "set/.cache").mkdir()
    rgb = load_dataset(spec, input_shape=(3, 6, 5))
    assert (rgb.class_names, rgb.labels.tolist(), rgb.name) == (("cat", "dog"), [0, 1, 1], "set/ (3 images)")
    np.testing.assert_allclose(rgb.batch([0])[0, :, 0, 0], [200 / 255, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(rgb.batch([1, 2])[:, 0, 0, 0], [50 / 255, 100 / 255], rtol=1e-6)
    assert rgb.preprocessing.resize == Resize(source=None, size=(6, 5))
    assert rgb.note == (
        "2 of 3 images converted to RGB; images resized to 6x5 (bilinear); 1 files that are not images skipped"
    )
    assert load_dataset(spec, input_shape=(1, 6, 5)).batch([0]).shape == (1, 1, 6, 5)


def test_folder_without_a_model_keeps_the_common_size(tmp_path):
    data = load_dataset(folder(tmp_path, {"a/1.png": grey(), "b/1.png": grey()}), input_shape=None)
    assert (data.input_shape, data.preprocessing.resize, data.note) == ((1, 6, 5), None, "")


def test_folder_transparency_is_said(tmp_path):
    rgba = np.full((6, 5, 4), 9, np.uint8)
    data = load_dataset(folder(tmp_path, {"a/1.png": rgba, "b/1.png": rgba}), input_shape=(3, 6, 5))
    assert data.note == "transparency dropped from 2 images"


def test_folder_reads_only_what_a_batch_needs(tmp_path):
    data = load_dataset(folder(tmp_path, {"a/1.png": grey(), "b/1.png": grey()}), input_shape=FIT)
    (tmp_path / "set/b/1.png").unlink()
    assert data.batch([0]).shape == (1, 1, 6, 5)
    with pytest.raises(DataError, match="no such file"):
        data.batch([1])


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"a/1.png": grey()}, "all 1 images are of one class"),
        ({"1.png": grey()}, "no class folders"),
        ({"a/1.png": grey(), "b/1.png": grey(7)}, "images of 2 sizes"),
        ({"a/1.png": grey(), "b/1.png": np.zeros((6, 5), np.uint16)}, "not bytes"),
        ({"a/1.png": grey(), "b/1.tif": np.zeros((6, 5), np.float32)}, "not bytes"),
    ],
)
def test_folder_refused(tmp_path, images, said):
    with pytest.raises(DataError, match=said):
        load_dataset(folder(tmp_path, images), input_shape=None)


def test_folder_with_an_empty_class(tmp_path):
    spec = folder(tmp_path, {"a/1.png": grey(), "b/1.png": grey()})
    (tmp_path / "set/c").mkdir()
    with pytest.raises(DataError, match="no images in class folder c"):
        load_dataset(spec, input_shape=FIT)


def test_folder_channels(tmp_path):
    with pytest.raises(DataError, match="the model takes 2"):
        load_dataset(folder(tmp_path, {"a/1.png": grey(), "b/1.png": grey()}), input_shape=(2, 6, 5))


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp", "tif", "pgm"])
def test_corrupt_images_are_named(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8)
    spec = folder(tmp_path, {f"a/1.{ending}": noise, f"b/bad.{ending}": noise})
    path = tmp_path / f"set/b/bad.{ending}"
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], content[:5], b"nothing of the kind"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not an image, or a damaged one") as caught:
            load_dataset(spec, input_shape=(1, 60, 50)).batch([1])
        assert caught.value.where == str(path)


def test_image_that_promises_gigapixels(tmp_path):
    spec = folder(tmp_path, {"a/1.png": grey(), "b/1.png": grey()})
    (tmp_path / "set/b/1.pgm").write_bytes(b"P5 30000 30000 255\n" + bytes(10))
    with pytest.raises(DataError, match="damaged") as caught:
        load_dataset(spec, input_shape=FIT)
    assert "bomb" in caught.value.why
