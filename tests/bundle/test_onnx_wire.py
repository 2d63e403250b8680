"""ONNX files are looked through before they are parsed: weights elsewhere, deep nesting, bytes that are no protobuf."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.hostile import rewrite

import edgecnn
from edgecnn.errors import BundleError
from edgecnn.export.onnx.wire import Wire, WireError, check_self_contained


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "beside.bin"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_weights_in_other_files_are_refused(path, place) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", path
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    inner = helper.make_graph([node], "inner", [], [])
    nodes = {"initializer": [], "attribute": [node], "subgraph": [helper.make_node("If", ["c"], [], then_branch=inner)]}
    graph = helper.make_graph(nodes[place], "g", [], [], [tensor] if place == "initializer" else [])
    data = helper.make_model(graph).SerializeToString()
    with pytest.raises(BundleError, match="are in another file") as caught:
        check_self_contained(data, where="x.onnx")
    assert path in caught.value.message
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT


def test_a_bundle_with_weights_elsewhere_is_not_run(small_bundle, tmp_path) -> None:
    folder = shutil.copytree(small_bundle.directory, tmp_path / "b")
    model = onnx.load(folder / "net.fp32.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "manifest.json"
    rewrite(folder, "net.fp32.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="are in another file"):
        edgecnn.load_bundle(folder).artifact("onnx", "fp32").read()


@pytest.mark.parametrize(
    "data",
    [b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", b"\x08" + b"\xff" * 11, b"\x02\x01x", b"\x3a\x05abc"],
    ids=["longer than the file", "group", "number without end", "field 0", "cut short"],
)
def test_bytes_that_are_no_protobuf(data) -> None:
    with pytest.raises(BundleError, match="not an ONNX file"):
        check_self_contained(data, where="x")


def test_nesting_and_fields_are_bounded(monkeypatch) -> None:
    data = b""
    for number in [6, 5, 1] * 20:  # graph, attribute, node, from the inside
        data = bytes([number << 3 | 2]) + _varint(len(data)) + data
    with pytest.raises(BundleError, match="nest deeper"):
        check_self_contained(b"\x3a" + _varint(len(data)) + data, where="x")
    monkeypatch.setattr("edgecnn.export.onnx.wire.MAX_FIELDS", 100)
    with pytest.raises(WireError, match="more than 100 fields"):
        list(Wire(b"\x08\x01" * 101).fields(memoryview(b"\x08\x01" * 101)))


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
