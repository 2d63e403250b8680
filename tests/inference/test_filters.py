"""Fixed filters, as modules and through the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import edgecnn
from edgecnn.cli import cli
from edgecnn.data.calibration import of_samples
from edgecnn.errors import DataError, ModelError, UsageError
from edgecnn.inference.filter_image import filter_image, read_image, shown_as_bytes, write_image
from edgecnn.models.fixed_filters import KERNELS, Filter

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
EDGE = np.repeat([[0, 0, 0, 255, 255, 255]], 5, axis=0).astype(np.uint8)
"""Dark on the left, bright on the right."""


def correlated(image, rows):
    """The plain sum of products, darkness around the image."""
    half = len(rows) // 2
    padded = np.pad(image, half)
    return sum(
        rows[r][c] * padded[r : r + image.shape[0], c : c + image.shape[1]]
        for r in range(len(rows))
        for c in range(len(rows))
    )


@pytest.mark.parametrize("name", KERNELS)
def test_a_filter_is_the_sum_of_products(name):
    kernel = KERNELS[name]
    image = RNG.random((3, 9, 8))
    with torch.no_grad():
        y = Filter(name, 3)(torch.from_numpy(image[None]).float())[0].numpy()
    assert y.shape == image.shape
    for got, channel in zip(y, image, strict=True):
        np.testing.assert_allclose(got, correlated(channel, kernel.rows) / kernel.divisor, atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_totals_and_reach(name):
    kernel = KERNELS[name]
    assert kernel.summary
    assert kernel.total == (0 if name in ("sobel_x", "sobel_y", "laplacian") else 1)
    with torch.no_grad():
        most = max(float(Filter(name)(sign.float()[None, None]).max()) for sign in _extremes(kernel))
    assert kernel.reach == pytest.approx(most)


def _extremes(kernel):
    rows = torch.tensor(kernel.rows)
    return rows > 0, rows < 0, (rows < 0).logical_not()


def test_edges_are_where_they_are():
    x = torch.from_numpy(EDGE)[None, None].float() / 255
    with torch.no_grad():
        assert Filter("sobel_x")(x)[0, 0, 2].tolist() == [0, 0, 4, 4, 0, -4]
        assert Filter("sobel_x", padding="replicate")(x)[0, 0, 2].tolist() == [0, 0, 4, 4, 0, 0]
        assert Filter("sobel_y", padding="replicate")(x).abs().max() == 0


def test_nothing_of_a_filter_is_trained():
    assert not [p for p in Filter().parameters() if p.requires_grad]
    assert isinstance(Filter(), nn.Conv2d)


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        ({"kernel": "sobel"}, "no kernel 'sobel'", "? there are identity"),
        ({"padding": "same"}, "no padding 'same'", "zeros or"),
        ({"channels": 0}, "channels=0", "1 or more"),
    ],
)
def test_refused(arguments, said, hint):
    with pytest.raises(ModelError, match=said) as caught:
        Filter(**arguments)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", KERNELS)
def test_exports_like_any_other_module(name, tmp_path, here):
    x = RNG.random((8, 2, 9, 8), dtype=np.float32)
    bundle = edgecnn.export_model(
        Filter(name, 2).eval(), torch.from_numpy(x[:1]), tmp_path / "f", precisions=["fp32", "int8"],
        calibration=of_samples((x,), "x"),
    )  # fmt: skip
    assert edgecnn.check_bundle(bundle, targets=here).passed
    assert bundle.artifact("tflite", "fp32").operators == {"DEPTHWISE_CONV_2D": 1}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_an_image_through_an_artifact(form, precision):
    done = filter_image(PIXELS, "gaussian", form=form, precision=precision)
    rows, divisor = KERNELS["gaussian"].rows, KERNELS["gaussian"].divisor
    expected = np.stack([correlated(PIXELS[..., c].astype(float), rows) / divisor for c in range(3)], -1)
    limit = 0.501 if precision == "fp32" else 2.5
    assert np.abs(done.pixels - expected).max() <= limit
    assert done.max_abs_error <= (1e-6 if precision == "fp32" else 0.01)
    assert done.artifact == f"gaussian.{precision}.{form}"
    assert done.target == {"onnx": "onnxruntime@local", "tflite": "litert@local"}[form]


def test_differences_are_shown_around_grey():
    assert filter_image(EDGE, "sobel_x").pixels[2].tolist() == [128, 128, 255, 255, 128, 1]
    assert shown_as_bytes(np.float32([-9, -4, 0, 2, 4]), 0, 4).tolist() == [0, 1, 128, 192, 255]
    assert shown_as_bytes(np.float32([-1, 0, 0.5, 1, 3]), 1, 4).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "litert"}, "litert does not run onnx files"),
        ({"target": "pi5x"}, "no runtime 'pi5x'"),
        ({"target": "pi5"}, "pi5 is a host, not a runtime"),
        ({"form": "pb"}, "pb"),
        ({"precision": "fp16"}, "fp16"),
    ],
)
def test_options_refused(options, said):
    with pytest.raises(UsageError, match=said):
        filter_image(EDGE, "identity", **options)


def test_images_keep_being_grey_or_rgb(tmp_path):
    for mode, shape in (("L", (5, 6)), ("1", (5, 6)), ("P", (5, 6, 3)), ("RGBA", (5, 6, 3)), ("CMYK", (5, 6, 3))):
        path = tmp_path / f"{mode}.tif"
        Image.new(mode, (6, 5)).save(path)
        assert read_image(path).shape == shape
    write_image(tmp_path / "new" / "a.png", PIXELS)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), PIXELS)


def test_images_refused(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no image")
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    Image.new("L", (4, 4)).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match="not an image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(DataError, match="not bytes"):
        read_image(tmp_path / "deep.png")
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "gone.png")
    monkeypatch.setattr("edgecnn.inference.filter_image.MOST_PIXELS", 15)
    with pytest.raises(DataError, match="16 pixels"):
        read_image(tmp_path / "grey.png")
    with pytest.raises(UsageError, match="lossless image"):
        write_image(tmp_path / "out.jpg", PIXELS)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        write_image(tmp_path / "file" / "out.png", PIXELS)


def test_the_command(tmp_path):
    Image.fromarray(EDGE).save(tmp_path / "in.png")
    arguments = ["filter", str(tmp_path / "in.png"), "--kernel", "sobel_x", "-o", str(tmp_path / "out.png")]
    result = CliRunner().invoke(cli, [*arguments, "--json", "-"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["image"] == "6x5 grey"
    assert said["target"] == "onnxruntime@local"
    assert np.asarray(Image.open(tmp_path / "out.png"))[2].tolist() == [128, 128, 255, 255, 128, 1]
