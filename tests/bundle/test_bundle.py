"""Bundles: what is written is read again, what is damaged is refused, and a folder is replaced whole or not at all."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecnn.bundle import (
    Bundle,
    Golden,
    GoldenSpec,
    InputSpec,
    Manifest,
    ModelSource,
    NewArtifact,
    OutputSpec,
    Program,
    ProgramSpec,
    WeightsFile,
    check_destination,
    decode_golden,
    decode_manifest,
    encode_golden,
    encode_manifest,
    folder,
    layout_name,
    load_bundle,
    write_bundle,
)
from edgecnn.bundle import golden as golden_module
from edgecnn.data.preprocessing import Preprocessing, Resize
from edgecnn.errors import BundleError
from edgecnn.graph.graph import GraphBuilder
from edgecnn.graph.ops import Linear

SHAPE = (1, 1, 4, 6)
AXES = {"onnx": (0, 1, 2, 3), "tflite": (0, 2, 3, 1)}
FLAT = {"onnx": (0, 1), "tflite": (0, 1)}


def make_golden(samples=3, **more):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, *SHAPE[1:])).astype(np.float32)
    y = rng.normal(size=(samples, 10)).astype(np.float32)
    return Golden(inputs={"x": x}, outputs={"fp32": {"y": y}}, labels=np.arange(samples), **more)


def make_input(**changes):
    fields = {
        "name": "x",
        "shape": SHAPE,
        "dtype": "float32",
        "axes": AXES,
        "layouts": {form: layout_name(axes) for form, axes in AXES.items()},
        "preprocessing": Preprocessing(scale=1 / 16, mean=(0.5,), resize=Resize(source=(8, 8), size=(4, 6))),
    }
    return InputSpec(**fields | changes)


def make_output(**changes):
    labels = tuple(str(digit) for digit in range(10))
    fields = {"name": "y", "shape": (1, 10), "dtype": "float32", "axes": FLAT, "class_labels": labels}
    return OutputSpec(**fields | changes)


def make_artifact(file, form="onnx", data=b"", operators=(), notes=()):
    return NewArtifact(file=file, format=form, precision="fp32", data=data, operators=dict(operators), notes=notes)


def make_program(outputs=10):
    builder = GraphBuilder()
    builder.input("x", SHAPE)
    weight = builder.constant("y.weight", np.ones((outputs, 24), np.float32))
    builder.output("y", builder.add(Linear(x="x", weight=weight, bias=None, flatten=True), "y"))
    return Program(graph=builder.build())


def parts(**changes):
    fields = {
        "name": "net",
        "source": ModelSource(
            model="net.py:Net", weights=WeightsFile(file="w.pt", sha256="0" * 64), arguments={"width": 8}
        ),
        "inputs": [make_input()],
        "outputs": [make_output()],
        "batch_resizable": True,
        "artifacts": [
            make_artifact("net.fp32.onnx", "onnx", b"\x08\x09" * 180, {"Gemm": 1, "Conv": 2}),
            make_artifact("net.fp32.tflite", "tflite", b"tflite" * 70, {"CONV_2D": 2}, ("no transposes",)),
        ],
        "golden": make_golden(),
        "golden_origin": "random, seed 0",
        "program": make_program(),
        "versions": {"edgecnn": "0.1.0"},
    }
    return fields | changes


def contents(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def leftovers(directory):
    return [path.name for path in Path(directory).parent.iterdir() if ".edgecnn-" in path.name]


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "out", **parts())


@pytest.fixture
def manifest(bundle):
    return json.loads((bundle.directory / "manifest.json").read_text())


# ---------------------------------------------------------------------------------------------------- round trip


def test_round_trip(bundle):
    loaded = load_bundle(str(bundle.directory))
    assert loaded == bundle
    files = ["golden.npz", "manifest.json", "net.fp32.onnx", "net.fp32.tflite", "program.npz"]
    assert sorted(contents(bundle.directory)) == files
    assert [artifact.read() for artifact in loaded.artifacts] == [b"\x08\x09" * 180, b"tflite" * 70]
    artifact = loaded.artifact("tflite", "fp32")
    assert (artifact.format, artifact.precision, artifact.bytes) == ("tflite", "fp32", 420)
    assert artifact.operators == {"CONV_2D": 2}
    assert len(artifact.sha256) == 64
    assert artifact.path == bundle.directory / "net.fp32.tflite"
    expected, found = make_golden(), loaded.golden()
    np.testing.assert_array_equal(found.inputs["x"], expected.inputs["x"])
    np.testing.assert_array_equal(found.outputs["fp32"]["y"], expected.outputs["fp32"]["y"])
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_manifest_is_sorted_indented_json(bundle):
    text = (bundle.directory / "manifest.json").read_text()
    decoded = json.loads(text)
    assert text == json.dumps(decoded, indent=2, sort_keys=True) + "\n"
    assert decoded["schema"] == 1
    assert decoded["inputs"][0]["layouts"] == {"onnx": "NCHW", "tflite": "NHWC"}
    assert list(decoded["artifacts"][0]["operators"]) == ["Conv", "Gemm"]


def test_twice_gives_the_same_bytes(tmp_path, bundle):
    write_bundle(tmp_path / "again", **parts())
    write_bundle(tmp_path / "again", **parts())
    assert contents(tmp_path / "again") == contents(bundle.directory)


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


def test_layout_names():
    assert layout_name((0, 2, 3, 1)) == "NHWC"
    assert layout_name((0, 1)) == ""


# -------------------------------------------------------------------------------------------- parts that do not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../net"}, "plain file name"),
        ({"name": ""}, "file name is empty"),
        ({"inputs": []}, "inputs are empty"),
        ({"artifacts": []}, "artifacts are empty"),
        ({"inputs": [make_input(), make_input()]}, "input name 'x' occurs twice"),
        (
            {"artifacts": [make_artifact("a"), make_artifact("b")]},
            "twice",
        ),
        ({"artifacts": [make_artifact("a"), make_artifact("A", "c")]}, "twice"),
        ({"artifacts": [make_artifact("MANIFEST.json")]}, "occurs twice"),
        ({"artifacts": [make_artifact("golden.npz")]}, "occurs twice"),
        ({"artifacts": [make_artifact("program.npz")]}, "occurs twice"),
        ({"program": make_program(outputs=11)}, "program does not fit"),
        ({"artifacts": [make_artifact("a", "carray")]}, "no axes for format carray"),
        ({"artifacts": [make_artifact("a", "ONNX!")]}, "short lower-case word"),
        ({"artifacts": [make_artifact("a", operators={"Conv": 0})]}, "0 operators Conv"),
        ({"artifacts": [make_artifact("a", notes=("\x1b[2J",))]}, "control character"),
        ({"inputs": [make_input(name="other")]}, "golden inputs do not fit"),
        ({"outputs": [make_output(shape=(1, 11))]}, "golden fp32 outputs do not fit"),
        ({"versions": {"torch": "\n"}}, "control character"),
        ({"golden_origin": ""}, "golden.origin is empty"),
        ({"source": ModelSource(model="net", arguments={"a": object()})}, "cannot be written as JSON"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "parent" / "out", **parts(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (1, 1, 0, 6)}, "not positive and bounded"),
        ({"shape": (1, 2**16, 2**16, 1)}, "not positive and bounded"),
        ({"shape": ()}, "rank 0"),
        ({"shape": (2, 1, 4, 6)}, "batch of 1"),
        ({"dtype": "object"}, "none of bool"),
        ({"axes": AXES | {"onnx": (0, 1, 1, 3)}}, "are not a permutation for"),
        ({"axes": {"onnx": (0, 1, 2, 3)}}, "different formats"),
        ({"layouts": {"onnx": "NHWC", "tflite": "NHWC"}}, "its axes say 'NCHW'"),
        ({"preprocessing": Preprocessing(mean=(1.0, 2.0))}, "2 values for 1 channels"),
        ({"preprocessing": Preprocessing(resize=Resize(source=None, size=(9, 9)))}, "resized to"),
        ({"preprocessing": Preprocessing(resize=Resize(source=(0, 1), size=(4, 6)))}, "resized from"),
    ],
)
def test_input_that_cannot_be(changes, message):
    with pytest.raises(BundleError, match=message):
        make_input(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_arguments_are_finite(value):
    with pytest.raises(BundleError, match="not finite"):
        ModelSource(model="net", arguments={"rate": value})


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


# --------------------------------------------------------------------------------------------- damaged and hostile


def rewrite(bundle, manifest):
    (bundle.directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "..", ".", "a/b", "a\\b", "C:a", "C:\\a", "a\0b", "a\nb", ""])
@pytest.mark.parametrize("place", ["artifact", "golden"])
def test_path_tricks_are_refused(bundle, manifest, place, name):
    (manifest["artifacts"][0] if place == "artifact" else manifest["golden"])["file"] = name
    rewrite(bundle, manifest)
    path = r"\$\.artifacts\[" if place == "artifact" else r"\$\.golden"
    with pytest.raises(BundleError, match=path):
        load_bundle(bundle.directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=2), "newer edgecnn.*\n.*\n.*schema is 2.*\n.*pip install --upgrade"),
        (lambda m: m.update(schema=0), "never existed"),
        (lambda m: m.pop("schema"), "missing required field `schema`"),
        (lambda m: m.update(surprise=1), "unknown field `surprise`"),
        (
            lambda m: m["inputs"][0].update(shape=[1, "a"]),
            r"Expected `int`, got `str` - at `\$\.inputs\[0\]\.shape\[1\]`",
        ),
        (lambda m: m["inputs"][0].update(shape=[1, 2**70]), r"shape|out of range"),
        (lambda m: m["inputs"][0]["preprocessing"].update(std=[0]), "neither scale nor std may be 0"),
        (lambda m: m["artifacts"][0].update(bytes=-1), r"-1 bytes.*\$\.artifacts\[0|\$\.artifacts\["),
        (lambda m: m["artifacts"][0].update(sha256="z" * 64), "not a SHA-256"),
        (lambda m: m["golden"].update(samples=0), "0 golden samples"),
        (lambda m: m["source"]["weights"].update(file="/home/me/w.pt"), "not a plain file name"),
    ],
)
def test_manifest_that_breaks_a_rule(bundle, manifest, change, message):
    change(manifest)
    rewrite(bundle, manifest)
    with pytest.raises(BundleError, match=f"(?s){message}") as caught:
        load_bundle(bundle.directory)
    assert caught.value.where.endswith("manifest.json")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"null", b'{"schema": NaN}', b'{"schema": 1, "a": ' + b"[" * 10**6, b" " * (16 << 20) + b"{}"],
)
def test_manifest_that_is_none(bundle, data):
    (bundle.directory / "manifest.json").write_bytes(data)
    with pytest.raises(BundleError, match=r"cannot be read|larger than"):
        load_bundle(bundle.directory)


def damage(data, draw):
    """Flip, cut or insert a few bytes."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "delete"])):
            case "flip" if changed:
                changed[where] ^= draw(st.integers(1, 255))
            case "cut":
                del changed[where:]
            case "insert":
                changed[where:where] = draw(st.binary(max_size=8))
            case _:
                del changed[where : where + draw(st.integers(1, 40))]
    return bytes(changed)


MANIFEST = encode_manifest(
    Manifest(
        name="net",
        source=parts()["source"],
        inputs=(make_input(),),
        outputs=(make_output(),),
        batch_resizable=True,
        artifacts=tuple(artifact.spec() for artifact in parts()["artifacts"]),
        golden=GoldenSpec(file="golden.npz", bytes=1, sha256="0" * 64, samples=1, origin="random, seed 0"),
        program=ProgramSpec(file="program.npz", bytes=1, sha256="0" * 64),
        versions={"edgecnn": "0.1.0"},
    )
)
GOLDEN = encode_golden(make_golden())


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_manifests_are_refused_or_valid(data):
    damaged = damage(MANIFEST, data.draw)
    try:
        manifest = decode_manifest(damaged)
    except BundleError:
        return
    assert decode_manifest(encode_manifest(manifest)) == manifest


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


# --------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"tflite" * 69 + b"tflitE"), "SHA-256"),
        (lambda path: path.write_bytes(b"tflite"), "6 bytes instead of 420"),
        (lambda path: path.write_bytes(b"tflite" * 71), "426 bytes instead of 420"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "not a file"),
    ],
)
def test_changed_artifact_is_not_read(bundle, change, message):
    artifact = bundle.artifact("tflite", "fp32")
    change(artifact.path)
    with pytest.raises(BundleError, match=message):
        artifact.read()


def test_changed_golden_is_not_read(bundle):
    (bundle.directory / "golden.npz").write_bytes(GOLDEN[:-1] + b"x")
    with pytest.raises(BundleError, match="has changed since it was exported"):
        bundle.golden()


def test_golden_of_another_model_is_not_used(bundle, manifest):
    manifest["golden"]["samples"] = 7
    rewrite(bundle, manifest)
    with pytest.raises(BundleError, match="3 golden samples, but the manifest says 7"):
        load_bundle(bundle.directory).golden()


def test_artifact_that_is_not_there_is_named(bundle):
    with pytest.raises(BundleError, match=r"(?s)no tflite artifact of precision int8.*it has: onnx fp32, tflite fp32"):
        bundle.artifact("tflite", "int8")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda out: None, "there is no folder"),
        (lambda out: out.write_text(""), "is a file"),
        (lambda out: out.mkdir(), "has no manifest.json"),
        (lambda out: (out / "manifest.json").mkdir(parents=True), "not a file"),
        (lambda out: (write_bundle(out, **parts()), (out / "net.fp32.onnx").unlink()), r"lacks net\.fp32\.onnx"),
        (lambda out: (write_bundle(out, **parts()), (out / "golden.npz").unlink()), r"lacks golden\.npz"),
        (lambda out: (write_bundle(out, **parts()), (out / "program.npz").unlink()), r"lacks program\.npz"),
    ],
)
def test_folders_that_are_no_bundles(tmp_path, prepare, message):
    prepare(tmp_path / "out")
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(tmp_path / "out")
    assert caught.value.hint


# ------------------------------------------------------------------------------------------------------- replacing


def refuse(directory, message, *, force):
    """Both doors refuse it, and nothing below it changes."""
    before = sorted(Path(directory).rglob("*"))
    for call in (check_destination, lambda path, force: write_bundle(path, **parts(), force=force)):
        with pytest.raises(BundleError, match=message):
            call(directory, force=force)
    assert sorted(Path(directory).rglob("*")) == before


def test_empty_folder_and_bundle_are_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o750)
    write_bundle(out, **parts())
    write_bundle(out, **parts(name="other"))
    assert load_bundle(out).manifest.name == "other"
    assert out.stat().st_mode & 0o777 == 0o750
    assert list(tmp_path.iterdir()) == [out]


def test_folder_with_other_things_is_refused_unless_forced(tmp_path):
    out = tmp_path / "out"
    (out / "thesis").mkdir(parents=True)
    for number in range(6):
        (out / f"file{number}").touch()
    refuse(out, "(?s)is not a bundle.*file0, file1, file2, file3, file4 and 2 more", force=False)
    write_bundle(out, **parts(), force=True)
    assert not (out / "thesis").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_bundle_with_other_things_is_refused_unless_forced(bundle, kind):
    extra = bundle.directory / "notes.txt"
    if kind == "file":
        extra.touch()
    elif kind == "folder":
        extra = bundle.artifacts[0].path
        extra.unlink()
        extra.mkdir()
    else:
        extra.symlink_to(bundle.artifacts[0].path)
    refuse(bundle.directory, f"(?s)also holds other files.*{extra.name}", force=False)
    write_bundle(bundle.directory, **parts(), force=True)
    assert load_bundle(bundle.directory).artifacts[0].read()


@pytest.mark.parametrize("text", ["{}", '{"schema": 2}', "{"])
def test_folder_with_an_unknown_manifest_is_refused_unless_forced(bundle, text):
    (bundle.directory / "manifest.json").write_text(text)
    refuse(bundle.directory, "a bundle that this edgecnn cannot read", force=False)
    write_bundle(bundle.directory, **parts(), force=True)
    load_bundle(bundle.directory)


@pytest.mark.parametrize("force", [False, True])
def test_files_and_protected_folders_are_never_replaced(tmp_path, monkeypatch, force):
    home, work, repo = tmp_path / "a" / "home", tmp_path / "a" / "work" / "here", tmp_path / "repos" / "repo"
    for made in (home, work, repo / ".git"):
        made.mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    with pytest.raises(BundleError, match="the root of the file system"):
        check_destination("/", force=force)
    refuse(".", "the current folder", force=force)
    refuse("..", "the current folder", force=force)
    refuse(home, "home folder", force=force)
    monkeypatch.setenv("HOME", str(tmp_path / "a" / "none"))
    monkeypatch.chdir(repo)
    refuse(tmp_path / "repos", "the current folder", force=force)
    monkeypatch.chdir("/")
    refuse(repo, "top folder of a git repository", force=force)
    refuse(repo.parent, "repo is the top folder of a git repository", force=force)
    refuse(tmp_path / "file", "is not a folder", force=force)
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(work))
    refuse(work.parent, "here is a mount point", force=force)


def test_working_folder_that_is_gone_and_unknown_home(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("unknown")))
    (tmp_path / "out").mkdir()
    write_bundle(tmp_path / "out", **parts())
    load_bundle(tmp_path / "out")
    monkeypatch.undo()


def test_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("made/later")
    for link in ("link", "dangling"):
        write_bundle(tmp_path / link, **parts())
        assert (tmp_path / link).is_symlink()
        load_bundle(tmp_path / link)
    assert load_bundle(tmp_path / "real").manifest == load_bundle(tmp_path / "made" / "later").manifest


def test_link_loop_is_refused(tmp_path):
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "out", **parts())


def test_missing_parents_are_made(tmp_path):
    write_bundle(tmp_path / "a" / "b" / "out", **parts())
    load_bundle(tmp_path / "a" / "b" / "out")


def raising(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"(?s)not enough disk space.*bytes are free, [\d,]+ are needed.*nothing was",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "(?s)not enough disk space.*quota"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError(errno.EROFS, "Read-only file system"), "no permission"),
        (OSError(errno.EBUSY, "Device or resource busy"), "mount point"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "another run is writing it"),
        (OSError(errno.EXDEV, "Invalid cross-device link"), "container image"),
        (KeyboardInterrupt(), None),
        (BundleError("another"), "another"),
    ],
)
@pytest.mark.parametrize(
    "place",
    ["pathlib.Path.write_bytes", "os.fsync", "edgecnn.bundle.folder._put_in_place", "edgecnn.bundle.folder._exchange"],
)
@pytest.mark.parametrize("existing", [True, False])
def test_failure_changes_nothing(tmp_path, monkeypatch, existing, place, error, message):
    out = tmp_path / "a" / "b" / "out"
    if existing:
        write_bundle(out, **parts())
    elif place.endswith("exchange"):
        out.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(place, raising(error))
        with pytest.raises((BundleError, KeyboardInterrupt), match=message):
            write_bundle(out, **parts(name="other"))
    assert sorted(tmp_path.rglob("*")) == before
    if existing:
        assert load_bundle(out).manifest.name == "net"


def test_long_names_and_files_on_the_way_are_explained(tmp_path):
    (tmp_path / "file").touch()
    for directory, message in ((tmp_path / ("n" * 250), "name is too long"), (tmp_path / "file" / "out", "is a file")):
        with pytest.raises(BundleError, match=message):
            write_bundle(directory, **parts())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folder_without_permission(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BundleError, match=r"(?s)no permission.*nothing was changed"):
        check_destination(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_parent_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(BundleError, match="no permission") as caught:
        write_bundle(tmp_path / "closed" / "out", **parts())
    assert caught.value.where == str(tmp_path / "closed")


@contextmanager
def small_disk(place):
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32k", "edgecnn-test", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a tiny disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_full_disk_for_real(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        write_bundle(disk / "out", **parts())
        before = contents(disk / "out")
        big = [make_artifact("net.fp32.onnx", "onnx", os.urandom(40_000))]
        for out in ("out", "a/new"):
            with pytest.raises(
                BundleError, match=r"(?s)not enough disk space.*[\d,]+ bytes are free, 4\d,\d{3} are needed"
            ):
                write_bundle(disk / out, **parts(artifacts=big))
        assert [path.name for path in disk.iterdir()] == ["out"]
        assert contents(disk / "out") == before


def test_mount_point_for_real(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        refuse(disk, "is a mount point", force=True)
        refuse(tmp_path, "disk is a mount point", force=True)


# ------------------------------------------------------------------------------------------------------ interrupted


def test_what_was_replaced_and_cannot_be_removed_is_told(bundle, monkeypatch):
    monkeypatch.setattr("shutil.rmtree", raising(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(
        BundleError, match=r"(?s)is complete, but the folder that it replaced may be left.*Permission"
    ) as caught:
        write_bundle(bundle.directory, **parts(name="other"))
    monkeypatch.undo()
    assert load_bundle(bundle.directory).manifest.name == "other"
    assert load_bundle(caught.value.where).manifest.name == "net"
    write_bundle(bundle.directory, **parts())
    assert leftovers(bundle.directory) == []


def test_another_run_that_is_faster_is_replaced(tmp_path, monkeypatch):
    out, rename = tmp_path / "out", Path.rename

    def late(path, target):
        if not out.exists():
            monkeypatch.setattr(Path, "rename", rename)
            write_bundle(out, **parts(name="faster"))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    write_bundle(out, **parts())
    assert load_bundle(out).manifest.name == "net"
    assert leftovers(out) == []


def test_file_that_appears_meanwhile_is_not_lost(tmp_path, monkeypatch, bundle):
    monkeypatch.setattr(folder, "_sync_tree", lambda path: (bundle.directory / "thesis.tex").touch())
    with pytest.raises(BundleError, match=r"thesis\.tex"):
        write_bundle(bundle.directory, **parts())
    assert (bundle.directory / "thesis.tex").exists()


def test_folders_of_live_runs_are_not_swept(tmp_path):
    out = tmp_path / "out"
    alive, lock = folder._make_locked(out)
    dead = tmp_path / ".out.edgecnn-00000000"
    dead.mkdir()
    (dead / "half").touch()
    (tmp_path / ".out.edgecnn-mine").mkdir()
    (tmp_path / ".other.edgecnn-00000000").mkdir()
    write_bundle(out, **parts())
    os.close(lock)
    assert sorted(leftovers(out)) == sorted([alive.name, ".out.edgecnn-mine", ".other.edgecnn-00000000"])
    write_bundle(out, **parts())
    assert not alive.exists()


def test_name_that_a_sweeper_took_is_given_up(tmp_path, monkeypatch):
    lock, calls = folder._lock, []

    def taken(path, *, required):
        calls.append(path)
        if len(calls) == 1:
            path.rmdir()
        if len(calls) == 2:
            raise BlockingIOError
        return lock(path, required=required)

    monkeypatch.setattr(folder, "_lock", taken)
    path, descriptor = folder._make_locked(tmp_path / "out")
    os.close(descriptor)
    assert path == calls[2]


def test_file_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")))
    left = tmp_path / ".out.edgecnn-00000000"
    left.mkdir()
    write_bundle(tmp_path / "out", **parts())
    load_bundle(tmp_path / "out")
    assert left.exists()


def test_file_system_without_exchange(bundle, monkeypatch):
    monkeypatch.setattr(folder, "_exchange", lambda first, second: False)
    write_bundle(bundle.directory, **parts(name="other"))
    assert load_bundle(bundle.directory).manifest.name == "other"
    assert leftovers(bundle.directory) == []


def test_second_rename_that_fails_is_undone(bundle, monkeypatch):
    rename = Path.rename

    def fail(path, target):
        if target == bundle.directory and path.suffix != ".old":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(folder, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(BundleError, match="Input/output"):
        write_bundle(bundle.directory, **parts(name="other"))
    assert load_bundle(bundle.directory).manifest.name == "net"
    assert leftovers(bundle.directory) == []


def test_exchange_is_in_use_here(tmp_path):
    """Where the file system of the tests can exchange, the fallback must not be what they prove."""
    for name in "ab":
        (tmp_path / name / name).mkdir(parents=True)
    if not folder._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange two folders")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    with pytest.raises(FileNotFoundError):
        folder._exchange(tmp_path / "a", tmp_path / "none")


# In a process of its own, every line of the code that replaces a folder is once the last one before SIGKILL.
KILLED_AT_EVERY_LINE = textwrap.dedent("""
    import json, os, pathlib, shutil, signal, sys
    from test_bundle import leftovers, parts
    from edgecnn.bundle import check_destination, folder, load_bundle, write_bundle
    from edgecnn.errors import BundleError

    out, how, existing = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "existing"
    os.fsync = lambda descriptor: None  # a kill loses nothing that was written; only a power cut does
    if how == "two renames":
        folder._exchange = lambda first, second: False

    def kill_at(line):
        count = 0
        def trace(frame, event, argument):
            nonlocal count
            code = frame.f_code
            if code.co_filename not in (folder.__file__, shutil.__file__) and code.co_name != "_write_files":
                return None
            if event == "line":
                count += 1
                if count == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)

    def killed(line, new):
        child = os.fork()
        if not child:
            kill_at(line)
            write_bundle(out, **new)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        return status == signal.SIGKILL

    def read_all():
        bundle = load_bundle(out)
        bundle.golden(), [artifact.read() for artifact in bundle.artifacts]
        return bundle.manifest.name

    def bring_back():
        try:
            raise SystemExit(load_bundle(out))
        except BundleError as err:
            assert "was killed" in str(err), err
        check_destination(out)
        assert read_all() == old["name"]

    old, new = parts(name="a"), parts(name="b")
    if existing:
        write_bundle(out, **old)
    seen, line = {"old": 0, "new": 0, "none": 0, "left": 0}, 1
    while killed(line, new):
        seen["left"] += bool(leftovers(out))
        if out.exists():
            seen["new" if read_all() == new["name"] else "old"] += 1
        else:
            seen["none"] += 1
            if existing:
                bring_back()
        write_bundle(out, **new)
        assert read_all() == new["name"]
        assert leftovers(out) == [], (line, leftovers(out))
        old, new, line = new, old, line + 1
        if not existing:
            shutil.rmtree(out)
    print(json.dumps(seen))
""")


@pytest.mark.parametrize("existing", ["existing", "absent"])
@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_kill_at_every_line_leaves_the_old_or_the_new(tmp_path, how, existing):
    if how == "exchange":
        test_exchange_is_in_use_here(tmp_path)
    root = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_LINE, str(tmp_path / "out"), how, existing],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["new"] > 0
    assert seen["left"] > 0
    assert seen["old"] > 0 or existing == "absent"
    assert (seen["none"] > 0) == (existing == "absent" or how == "two renames")


def test_ctrl_c_for_real(tmp_path, bundle):
    """The child tells when it is in the middle of writing, and is then interrupted as a terminal does it."""
    script = textwrap.dedent("""
        import pathlib, signal, sys
        from test_bundle import parts
        from edgecnn.bundle import write_bundle
        def write(path, data):
            print("writing", flush=True)
            signal.pause()
        pathlib.Path.write_bytes = write
        signal.signal(signal.SIGINT, signal.default_int_handler)
        write_bundle(sys.argv[1], **parts(name="new"))
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(bundle.directory)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "writing\n"
    child.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in child.communicate()[1]
    assert isinstance(load_bundle(bundle.directory), Bundle)
    assert load_bundle(bundle.directory).manifest.name == "net"
    assert leftovers(bundle.directory) == []
