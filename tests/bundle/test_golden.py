"""Golden vectors: an ordinary npz whose bytes depend on values alone; what is damaged or hostile is refused."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bundle_parts import damage, make_golden, write_manifest

from edgecnn.bundle import Golden, decode_golden, encode_golden, load_bundle
from edgecnn.bundle import golden as golden_module
from edgecnn.errors import BundleError


def test_golden_is_an_ordinary_npz_without_traces_of_the_system(bundle):
    data = (bundle.directory / "golden.npz").read_bytes()
    with np.load(io.BytesIO(data)) as npz:
        assert set(npz) == {"input/x", "output/fp32/y", "labels"}
        np.testing.assert_array_equal(npz["input/x"], make_golden().inputs["x"])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        traces = {(info.date_time, info.create_system, info.external_attr, info.extra) for info in archive.infolist()}
    assert traces == {((1980, 1, 1, 0, 0, 0), 3, 0o100644 << 16, b"")}


def test_golden_bytes_depend_on_values_only():
    plain = make_golden()
    x = plain.inputs["x"]
    for other in (np.asfortranarray(x), x.astype(">f4"), np.repeat(x, 2, axis=0)[::2]):
        same = Golden(inputs={"x": other}, outputs=plain.outputs, labels=plain.labels)
        assert encode_golden(same) == encode_golden(plain)


def test_golden_holds_more_precisions_and_no_labels():
    y = np.zeros((2, 5), np.int8)
    golden = Golden(
        inputs={"a/b": np.ones((2, 3), np.uint8)},
        outputs={"int8": {"y": y}, "fp32": {"y": y.astype(np.float64)}},
    )
    found = decode_golden(encode_golden(golden))
    assert found.labels is None
    assert found.samples == 2
    assert {key: found.outputs[key]["y"].dtype for key in found.outputs} == {"int8": np.int8, "fp32": np.float64}
    assert found.inputs["a/b"].flags.writeable


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": {}}, "need an input"),
        ({"outputs": {"int8": {"y": np.ones((3, 1))}}}, "the outputs of the reference"),
        ({"outputs": {"fp32": {"y": np.ones((2, 1))}}}, "2 golden samples"),
        ({"outputs": {"fp32": {"y": np.array(["a"] * 3)}}}, "only numbers"),
        ({"outputs": {"fp32": {"y": np.ones((3, 1), np.complex64)}}}, "only numbers"),
        ({"outputs": {"fp32": {"y": np.ones((3, 0))}}}, "at least one value"),
        ({"outputs": {"fp32": {"y": np.array(3.0)}}}, "rank 1 to 8"),
        ({"outputs": {"fp32": {"y": np.ones((3, 1))}, "a/b": {}}}, "short lower-case word"),
        ({"outputs": {"fp32": {"y\0": np.ones((3, 1))}}}, "control character"),
        ({"labels": np.zeros(3, np.int32)}, "not int64"),
        ({"labels": np.zeros(4, np.int64)}, "4 golden samples"),
        ({"inputs": {"x": np.broadcast_to(np.float64(0), (3, 2**27))}}, "the limit is"),
    ],
)
def test_golden_that_cannot_be(fields, message):
    good = {"inputs": {"x": np.ones((3, 2))}, "outputs": {"fp32": {"y": np.ones((3, 2))}}}
    with pytest.raises(BundleError, match=message):
        Golden(**good | fields)


GOLDEN = encode_golden(make_golden())


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_golden_vectors_are_refused_or_valid(data):
    try:
        golden = decode_golden(damage(GOLDEN, data.draw))
    except BundleError:
        return
    assert golden.samples == 3


def npz(*members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


ONES = npy(np.ones((3, 1), np.float32))
PAIR = (("input/x.npy", ONES), ("output/fp32/y.npy", ONES))
HUGE = ONES.replace(b"(3, 1), }" + b" " * 8, b"(3, 999999999), }")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged"),
        (npz(*PAIR)[:-30], "damaged"),
        (npz(), "need an input"),
        (npz(*PAIR, ("surprise.npy", ONES)), "an unexpected array"),
        (npz(*PAIR, ("output/fp32.npy", ONES)), "an unexpected array"),
        (npz(*PAIR, ("output//y.npy", ONES)), "an unexpected array"),
        (npz(*PAIR, ("input/.npy", ONES)), "an unexpected array"),
        (npz(*PAIR, ("readme.txt", b"")), "not an array"),
        (npz(*PAIR, ("input/z.npy", b"text")), "not an array of npy format"),
        (npz(*PAIR, compression=zipfile.ZIP_LZMA), "compressed by an unsupported method"),
        (npz(*PAIR, ("input/z.npy", npy(np.ones((2, 1), np.float32)))), "2 golden samples"),
        (npz(*PAIR, ("input/z.npy", npy(np.array([{}] * 3), allow_pickle=True))), "is not a plain array"),
        (npz(*PAIR, ("input/z.npy", npy(np.array(["text"] * 3)))), "is not a plain array"),
        (npz(*PAIR, ("input/z.npy", npy(np.ones((3, 2), order="F")))), "is not a plain array"),
        (npz(*PAIR, ("input/z.npy", ONES[:-1])), "which do not match"),
        (npz(*PAIR, ("input/z.npy", ONES[:20])), "is not a plain array"),
        (npz(*PAIR, ("input/z.npy", HUGE)), "which do not match"),
        (npz(*PAIR, ("labels.npy", ONES)), "not int64"),
    ],
)
def test_golden_files_that_are_refused(data, message):
    with pytest.raises(BundleError, match=message) as caught:
        decode_golden(data, where="golden.npz")
    assert message == "need an input" or caught.value.where == "golden.npz"


def test_golden_with_a_name_twice():
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = npz(*PAIR, PAIR[0])
    with pytest.raises(BundleError, match="twice"):
        decode_golden(data)


def test_zip_bomb_is_refused_before_it_is_opened(monkeypatch):
    bomb = npz(*PAIR, ("input/z.npy", bytes(2 << 20)), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    monkeypatch.setattr(golden_module, "MAX_GOLDEN_BYTES", 1 << 20)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(BundleError, match="declare 3 arrays"):
        decode_golden(bomb)


def test_size_that_is_a_lie_is_refused():
    bomb = npz(*PAIR, ("input/z.npy", bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED)
    lie = bomb.replace((1 << 20).to_bytes(4, "little"), (1 << 10).to_bytes(4, "little"))
    assert lie != bomb
    with pytest.raises(BundleError, match="damaged"):
        decode_golden(lie)


def test_too_many_members_are_refused(monkeypatch):
    monkeypatch.setattr(golden_module, "_MAX_MEMBERS", 1)
    with pytest.raises(BundleError, match="declare 2 arrays"):
        decode_golden(npz(*PAIR))


def test_changed_golden_is_not_read(bundle):
    (bundle.directory / "golden.npz").write_bytes(GOLDEN[:-1] + b"x")
    with pytest.raises(BundleError, match="has changed since it was exported"):
        bundle.golden()


def test_golden_of_another_model_is_not_used(bundle, manifest):
    manifest["golden"]["samples"] = 7
    write_manifest(bundle, manifest)
    with pytest.raises(BundleError, match="3 golden samples, but the manifest says 7"):
        load_bundle(bundle.directory).golden()
