"""Bundles: what is written is read again; parts that do not fit and changed files are refused."""

import numpy as np
import pytest
from support.bundle_parts import contents, make_artifact, make_golden, make_input, make_output, make_program, parts

from edgecnn.bundle import ModelSource, load_bundle, write_bundle
from edgecnn.errors import BundleError


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


def test_twice_gives_the_same_bytes(tmp_path, bundle):
    write_bundle(tmp_path / "again", **parts())
    write_bundle(tmp_path / "again", **parts())
    assert contents(tmp_path / "again") == contents(bundle.directory)


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
