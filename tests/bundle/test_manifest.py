"""The manifest: sorted JSON, and every rule that it may break is named with its place."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bundle_parts import AXES, damage, make_input, make_output, parts, write_manifest

from edgecnn.bundle import (
    GoldenSpec,
    Manifest,
    ModelSource,
    ProgramSpec,
    decode_manifest,
    encode_manifest,
    layout_name,
    load_bundle,
)
from edgecnn.data.preprocessing import Preprocessing, Resize
from edgecnn.errors import BundleError


def test_manifest_is_sorted_indented_json(bundle):
    text = (bundle.directory / "manifest.json").read_text()
    decoded = json.loads(text)
    assert text == json.dumps(decoded, indent=2, sort_keys=True) + "\n"
    assert decoded["schema"] == 1
    assert decoded["inputs"][0]["layouts"] == {"onnx": "NCHW", "tflite": "NHWC"}
    assert list(decoded["artifacts"][0]["operators"]) == ["Conv", "Gemm"]


def test_layout_names():
    assert layout_name((0, 2, 3, 1)) == "NHWC"
    assert layout_name((0, 1)) == ""


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


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "..", ".", "a/b", "a\\b", "C:a", "C:\\a", "a\0b", "a\nb", ""])
@pytest.mark.parametrize("place", ["artifact", "golden"])
def test_path_tricks_are_refused(bundle, manifest, place, name):
    (manifest["artifacts"][0] if place == "artifact" else manifest["golden"])["file"] = name
    write_manifest(bundle, manifest)
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
    write_manifest(bundle, manifest)
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


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_manifests_are_refused_or_valid(data):
    damaged = damage(MANIFEST, data.draw)
    try:
        manifest = decode_manifest(damaged)
    except BundleError:
        return
    assert decode_manifest(encode_manifest(manifest)) == manifest
