"""Files that are refused, and what a file's neighbours may say of it."""

from __future__ import annotations

import shutil

import pytest
from onnx import TensorProto

from edgecnn.compare.source import read_source
from edgecnn.errors import BundleError


def test_a_changed_file_is_not_described_by_the_manifest(small_bundle, tmp_path) -> None:
    folder = shutil.copytree(small_bundle.directory, tmp_path / "b")
    path = folder / "net.fp32.onnx"
    path.write_bytes((folder / "net.int8.onnx").read_bytes())
    facts = read_source(path).facts
    assert not facts.layouts
    assert "not the file that manifest.json describes" in facts.notes[0]


def test_a_file_too_large_is_refused_unread(tmp_path) -> None:
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(BundleError, match=r"large.onnx is larger than 1,073,741,824 bytes"):
        read_source(tmp_path / "large.onnx")


def test_what_is_no_file_is_refused(tmp_path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"\x1c\0\0\0nope")
    (tmp_path / "x.bin").write_bytes(b"text")
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 40)
    (tmp_path / "x.ort").write_bytes(b"\0\0\0\0ORTMxxxx")
    for name, words in (
        ("x.tflite", "no TFLite file"),
        ("x.bin", "is of no known format"),
        ("x.onnx", "not an ONNX file"),
        ("x.ort", "ONNX Runtime's own format"),
        ("missing.onnx", "cannot read missing.onnx"),
        ("", "is a folder"),
    ):
        with pytest.raises(BundleError, match=words):
            read_source(tmp_path / name)
    with pytest.raises(BundleError, match="not an ordinary file"):
        read_source("/dev/zero")


def test_texts_and_sequences_are_refused(write) -> None:
    text = write("t.onnx", [("Identity", ["x"], ["y"], {})], [("x", TensorProto.STRING, [1])], [("y", 8, [1])])
    with pytest.raises(BundleError, match="'x' is a tensor of texts"):
        read_source(text)


def test_several_signatures_are_refused(small_bundle, tmp_path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(small_bundle.artifact("tflite", "fp32").path.read_bytes(), 0)
    second = schema.SignatureDefT()
    second.signatureKey, second.subgraphIndex = "train", 1
    model.signatureDefs = [*model.signatureDefs, second]
    model.subgraphs = [*model.subgraphs, model.subgraphs[0]]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "two.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(BundleError, match="2 signatures, each with a graph of its own: 'serving_default', 'train'"):
        read_source(path)
