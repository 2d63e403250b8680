"""Data sets from arrays: what is read, how it is fitted to a model, and what is refused."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from edgecnn.data.preprocessing import Resize
from edgecnn.data.resize import resize
from edgecnn.data.sources import load_dataset
from edgecnn.errors import DataError, UsageError

LABELS = np.array([0, 1] * 5)
IMAGES = np.arange(10 * 6 * 5, dtype=np.uint16).reshape(10, 6, 5).astype(np.uint8)
FIT = (1, 6, 5)


def npz(tmp_path, **arrays):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays)
    return f"npz:{path}"


def idx_bytes(array, code=0x08, shape=None):
    shape = array.shape if shape is None else shape
    swapped = array.astype(array.dtype.newbyteorder(">"))
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + swapped.tobytes()


def idx(tmp_path, images, labels=None):
    (tmp_path / "images").write_bytes(images)
    if labels is None:
        return f"idx:{tmp_path}/images"
    (tmp_path / "labels").write_bytes(labels)
    return f"idx:{tmp_path}/images,{tmp_path}/labels"


# --- digits


def test_digits_are_held_out_by_default_and_say_so():
    data = load_dataset("digits", input_shape=(1, 28, 28))
    assert (len(data), data.name, data.spec) == (360, "digits (held-out 360 of 1,797)", "digits")
    assert data.note == "images resized from 8x8 to 28x28 (bilinear)"
    assert data.preprocessing.resize == Resize(source=(8, 8), size=(28, 28))
    assert data.class_names == tuple("0123456789")
    x = data.batch([0, 5])
    assert (x.shape, x.dtype) == ((2, 1, 28, 28), np.float32)
    assert 0 <= x.min() < x.max() <= 1


def test_digits_in_their_own_size_are_the_shipped_values():
    data = load_dataset("digits", input_shape=None, split="all")
    assert (len(data), data.input_shape, data.note, data.preprocessing.resize) == (1797, (1, 8, 8), "", None)
    first = data.batch([0])[0, 0, 0] * 16
    assert first.tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("seed", [0, 1])
def test_train_and_test_share_nothing_and_miss_nothing(seed):
    parts = [load_dataset("digits", input_shape=None, split=s, seed=seed) for s in ("train", "test")]
    train, test = (set(p.members.tolist()) for p in parts)
    assert not train & test
    assert train | test == set(range(1797))
    assert set(np.bincount(parts[1].labels).tolist()) <= {35, 36, 37}


def test_the_split_is_the_same_in_every_version_of_numpy():
    assert load_dataset("digits", input_shape=None).members[:8].tolist() == SPLIT_OF_SEED_0
    assert load_dataset("digits", input_shape=None, seed=1).members[:8].tolist() != SPLIT_OF_SEED_0


SPLIT_OF_SEED_0 = [2, 3, 11, 13, 15, 20, 21, 32]


# --- Dataset


def test_batches_take_and_spread(tmp_path):
    data = load_dataset(npz(tmp_path, x=IMAGES, y=LABELS), input_shape=FIT)
    batches = list(data.batches(4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), data.batch(np.arange(10)))
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), LABELS)
    assert data.spread(3).tolist() == [1, 5, 8]
    assert data.spread(99).tolist() == list(range(10))
    part = data.take([7, 1])
    np.testing.assert_array_equal(part.batch([0, 1]), data.batch([7, 1]))
    assert (len(part), part.labels.tolist(), part.name) == (2, [1, 1], "set.npz (10 images), 2 of them")


@pytest.mark.parametrize(
    "wrong", [lambda d: d.batch([10]), lambda d: d.take([-1]), lambda d: d.spread(0), lambda d: next(d.batches(0))]
)
def test_places_outside_the_set_are_refused(tmp_path, wrong):
    data = load_dataset(npz(tmp_path, x=IMAGES), input_shape=FIT)
    with pytest.raises(DataError):
        wrong(data)


# --- npz


@pytest.mark.parametrize(
    ("shape", "wanted", "axes"),
    [
        ((10, 6, 5), (1, 6, 5), None),
        ((10, 1, 6, 5), (1, 6, 5), (0, 1, 2, 3)),
        ((10, 6, 5, 1), (1, 6, 5), (0, 3, 1, 2)),
        ((10, 3, 6, 5), (3, 6, 5), (0, 1, 2, 3)),
        ((10, 6, 5, 3), (3, 6, 5), (0, 3, 1, 2)),
        ((10, 6, 5, 3), None, (0, 3, 1, 2)),
        ((10, 3, 8, 3), (3, 8, 3), (0, 1, 2, 3)),  # the channels fit twice, height and width once
        ((10, 3, 8, 3), (3, 3, 8), (0, 3, 1, 2)),
    ],
)
def test_npz_layouts(tmp_path, shape, wanted, axes):
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    data = load_dataset(npz(tmp_path, images=x), input_shape=wanted)
    expected = x[:, None] if axes is None else x.transpose(axes)
    np.testing.assert_array_equal(data.batch(np.arange(10)), expected)
    assert data.labels is None
    assert data.note == ""


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("inputs", "targets")])
def test_npz_keys(tmp_path, keys):
    data = load_dataset(npz(tmp_path, **{keys[0]: IMAGES, keys[1]: LABELS[:, None]}), input_shape=FIT)
    assert data.labels.tolist() == LABELS.tolist()


def test_npz_with_one_array_of_any_name(tmp_path):
    assert len(load_dataset(npz(tmp_path, photos=IMAGES), input_shape=FIT)) == 10


def test_npz_class_names(tmp_path):
    data = load_dataset(npz(tmp_path, x=IMAGES, y=LABELS, classes=np.array(["cat", "dog"])), input_shape=FIT)
    assert data.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("u1", 1 / 255), ("f4", 1), ("f8", 1), (">f4", 1), ("f2", 1), ("i2", 1), (">i4", 1), ("i8", 1), ("?", 1)],
)
def test_default_scale_follows_the_type(tmp_path, dtype, scale):
    x = (IMAGES % 2).astype(dtype)
    data = load_dataset(npz(tmp_path, x=x), input_shape=FIT)
    np.testing.assert_allclose(data.batch([3])[0, 0], (IMAGES[3] % 2) * scale, rtol=1e-6)
    assert ("used without scaling" in data.note) == (np.dtype(dtype).kind == "i")


def test_scale_mean_and_std_are_applied_and_recorded(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 6, 5), dtype=np.uint8)
    data = load_dataset(
        npz(tmp_path, x=x), input_shape=(3, 6, 5), scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0,), split="all"
    )
    expected = (x * 0.5 - np.array([1, 2, 3]).reshape(1, 3, 1, 1)) / 2
    np.testing.assert_allclose(data.batch(np.arange(4)), expected, rtol=1e-6)
    assert (data.preprocessing.scale, data.preprocessing.mean, data.preprocessing.std) == (0.5, (1, 2, 3), (2,))


def test_resize_is_pillows_and_keeps_floats(tmp_path):
    from PIL import Image

    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32) * 1000
    data = load_dataset(npz(tmp_path, x=x), input_shape=(1, 12, 9))
    expected = np.asarray(Image.fromarray(x[1]).resize((9, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(data.batch([1])[0, 0], expected)
    assert data.preprocessing.resize == Resize(source=(6, 5), size=(12, 9))
    assert resize(IMAGES[:, None], (3, 3)).dtype == np.uint8


class Payload:
    pass


@pytest.mark.parametrize(
    ("arrays", "wanted", "said"),
    [
        ({"a": IMAGES, "b": LABELS}, FIT, "not clear which array holds the images"),
        ({"x": IMAGES, "images": IMAGES}, FIT, "not clear which array holds the images"),
        ({"x": IMAGES, "y": LABELS, "labels": LABELS}, FIT, "mean the same"),
        ({"x": IMAGES.reshape(10, 30)}, FIT, "not a set of images"),
        ({"x": IMAGES[:0]}, FIT, "no images"),
        ({"x": IMAGES}, (3, 6, 5), "1 channel, the model takes 3"),
        ({"x": np.zeros((4, 3, 6, 5), "u1")}, FIT, "3 channels, the model takes 1"),
        ({"x": np.zeros((4, 3, 3, 3), "u1")}, (3, 3, 3), "could be N,C,H,W or N,H,W,C"),
        ({"x": np.zeros((4, 3, 7, 3), "u1")}, None, "could be N,C,H,W or N,H,W,C"),
        ({"x": np.zeros((4, 7, 7, 7), "u1")}, None, "looks like channels"),
        ({"x": IMAGES.astype("c8")}, FIT, "not numbers"),
        ({"x": np.zeros(3, [("a", "f4")])}, FIT, "not numbers"),
        ({"x": np.array([Payload()] * 2)}, FIT, "Python objects"),
        ({"x": np.where(np.arange(300).reshape(10, 6, 5) == 95, np.nan, 0)}, FIT, "image 3 holds NaN"),
        ({"x": np.full((2, 6, 5), np.inf)}, FIT, "image 0 holds NaN or infinity"),
        ({"x": IMAGES, "y": LABELS[:9]}, FIT, "10 images, but 9 labels"),
        ({"x": IMAGES, "y": np.zeros(10, int)}, FIT, "of one class"),
        ({"x": IMAGES, "y": LABELS - 1}, FIT, "labels from -1 to 0"),
        ({"x": IMAGES, "y": LABELS * 10**9}, FIT, "labels from 0 to 1000000000"),
        ({"x": IMAGES, "y": LABELS + 0.5}, FIT, "not whole numbers"),
        ({"x": IMAGES, "y": LABELS * np.nan}, FIT, "not whole numbers"),
        ({"x": IMAGES, "y": np.eye(2)[LABELS]}, FIT, "labels of shape 10x2"),
        ({"x": IMAGES, "y": LABELS.astype(str)}, FIT, "not whole numbers"),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["cat"])}, FIT, "1 class names"),
        ({"x": IMAGES, "y": LABELS, "classes": LABELS}, FIT, "not a list of texts"),
    ],
)
def test_npz_refused(tmp_path, arrays, wanted, said):
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(npz(tmp_path, **arrays), input_shape=wanted)
    assert str(tmp_path / "set.npz") in caught.value.where


def header_only(shape, extra=b"", dtype="|u1"):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    return head.getvalue() + extra


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (header_only((10**6, 1000, 1000)), "more than the limit of 4 GiB"),
        (header_only((1000, 1000, 1000)), "declares 1,000,000,000 bytes, the archive holds 0"),
        (header_only((2, 2, 2), bytes(9)), "declares 8 bytes, the archive holds 9"),
        (b"no array at all", "not a NumPy archive"),
        (b"", "not a NumPy archive"),
        (b"\x93NUMPY\x03\x00" + bytes(10), "named fields"),
    ],
)
def test_npz_whose_headers_lie(tmp_path, member, said):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(DataError, match=said):
        load_dataset(f"npz:{path}", input_shape=FIT)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_npz_cut_off_or_no_zip(tmp_path, keep):
    spec = npz(tmp_path, x=np.random.default_rng(0).random((10, 6, 5)))
    path = tmp_path / "set.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match="not a NumPy archive"):
        load_dataset(spec, input_shape=FIT)


def test_npz_with_a_flipped_byte(tmp_path):
    spec = npz(tmp_path, x=np.random.default_rng(0).random((10, 6, 5)))
    path = tmp_path / "set.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load_dataset(spec, input_shape=FIT)


# --- IDX


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_types(tmp_path, code, dtype, pack):
    x = (IMAGES % 100).astype(dtype)
    spec = idx(tmp_path, pack(idx_bytes(x, code)), pack(idx_bytes(LABELS.astype("u1"))))
    data = load_dataset(spec, input_shape=FIT, scale=1.0)
    np.testing.assert_array_equal(data.batch(np.arange(10))[:, 0], x.astype(np.float32))
    assert data.labels.tolist() == LABELS.tolist()


def test_idx_without_labels(tmp_path):
    data = load_dataset(idx(tmp_path, idx_bytes(IMAGES)), input_shape=(1, 8, 8))
    assert (data.labels, data.class_names, len(data)) == (None, (), 10)


GOOD = idx_bytes(IMAGES)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG....", "not an IDX file"),
        (b"\0\0\x0a\x03" + bytes(20), "not an IDX file"),
        (b"\0\0\x08\x00", "not an IDX file"),
        (GOOD[:9], "cut off within its header"),
        (GOOD[:-1], "cut off: 299 of 300 bytes"),
        (GOOD + b"\0", "too long"),
        (idx_bytes(IMAGES[:0], shape=(0, 6, 5)), "no images"),
        (idx_bytes(IMAGES, shape=(2**31, 28, 28)), "more than the limit of 4 GiB"),
        (idx_bytes(IMAGES, shape=(60_000, 28, 28)), "cut off: 300 of 47,040,000"),
        (gzip.compress(GOOD, mtime=0)[:-20], "not a gzipped IDX file, or a damaged one"),
        (gzip.compress(GOOD, mtime=0)[:40] + b"\xff" * 40, "not a gzipped IDX file, or a damaged one"),
        (gzip.compress(GOOD[:-1], mtime=0), "cut off: 299 of 300 bytes"),
        (idx_bytes(LABELS.astype("u1")), "not a set of images"),
    ],
)
def test_idx_refused(tmp_path, images, said):
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(idx(tmp_path, images), input_shape=FIT)
    assert caught.value.where == f"{tmp_path}/images"


# --- specifications


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("digit", "digits"),
        ("digits:x", "digits"),
        ("", "one of digits, scenes, npz:FILE, idx:IMAGES,LABELS, folder:DIR"),
        ("npz:", "npz:FILE"),
        ("faces.npz", "npz:faces.npz"),
        ("dir:pictures", "folder:DIR"),
    ],
)
def test_unknown_specifications(spec, hint):
    with pytest.raises(UsageError, match="is not a data set") as caught:
        load_dataset(spec, input_shape=None)
    assert hint in caught.value.hint


@pytest.mark.parametrize("spec", ["npz:gone.npz", "idx:gone", "idx:gone,gone", "folder:gone"])
def test_missing_files(spec):
    with pytest.raises(DataError, match="no such") as caught:
        load_dataset(spec, input_shape=None)
    assert caught.value.where.startswith("gone")


def test_a_folder_for_a_file(tmp_path):
    with pytest.raises(DataError, match="this is a folder"):
        load_dataset(f"npz:{tmp_path}", input_shape=None)


def test_unknown_split_and_unfitting_mean(tmp_path):
    with pytest.raises(UsageError, match="no part 'half'"):
        load_dataset("digits", input_shape=None, split="half")
    with pytest.raises(DataError, match="mean has 2 values"):
        load_dataset("digits", input_shape=None, mean=(0.1, 0.2))
    with pytest.raises(DataError, match="cannot be split"):
        load_dataset(npz(tmp_path, x=IMAGES[:1]), input_shape=FIT, split="train")


def test_split_without_labels(tmp_path):
    spec = npz(tmp_path, x=IMAGES)
    sizes = [len(load_dataset(spec, input_shape=FIT, split=s)) for s in ("train", "test", "all")]
    assert sizes == [8, 2, 10]
