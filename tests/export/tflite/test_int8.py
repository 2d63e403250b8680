"""What an int8 TFLite file holds: tables of scales, operator versions, vectors stored once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.environments import PYTHONS
from support.int8 import NETWORKS, images, quantized_network
from support.int8_files import data

from edgecnn.export.tflite import int8
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.export.tflite.write import symmetric
from edgecnn.graph.ops import Linear
from edgecnn.program.qparams import QWeights
from edgecnn.program.quantized import QuantizedGraph


def graph_of(name: str) -> tuple[Any, Any]:
    model = schema.ModelT.InitFromPackedBuf(data(name), 0)
    return model, model.subgraphs[0]


def per_tensor(q: QuantizedGraph, *channels: int) -> QuantizedGraph:
    """The same graph with one scale for all channels of linear layers that have so many of them."""
    weights = dict(q.weights)
    for node in q.graph.nodes:
        if isinstance(node.op, Linear) and len(weights[node.op.weight].scales) in channels:
            own = weights[node.op.weight]
            scale = own.scales.max()
            whole = np.rint(own.dequantize() / scale).astype(np.int8)
            weights[node.op.weight] = QWeights(whole, np.full_like(own.scales, scale))
    return replace(q, weights=weights)


def test_quantized_dimension_and_tables() -> None:
    """Output channels: the last axis for depthwise, the first for convolutions, one scale for a linear layer."""
    model, graph = graph_of("depthwise")
    builtin = schema.BuiltinOperator
    axes = {builtin.CONV_2D: 0, builtin.DEPTHWISE_CONV_2D: 3, builtin.FULLY_CONNECTED: 0}
    seen = set()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code not in axes:
            continue
        x, weights, bias = (graph.tensors[i] for i in operator.inputs)
        assert weights.quantization.quantizedDimension == axes[code]
        scales = 1 if code == builtin.FULLY_CONNECTED else weights.shape[axes[code]]
        assert len(weights.quantization.scale) == scales
        assert weights.shape[axes[code]] == bias.shape[0]
        assert not weights.quantization.zeroPoint.any()
        products = x.quantization.scale[0] * weights.quantization.scale
        np.testing.assert_array_equal(bias.quantization.scale, products)
        seen.add(code)
    assert seen == set(axes)


def test_operator_versions() -> None:
    """The first version of each operator that has int8 (tensorflow/lite/tools/versioning/op_version.cc)."""
    first = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "QUANTIZE": 1, "RESHAPE": 1}
    names = {value: key for key, value in vars(schema.BuiltinOperator).items()}
    found = [(names[c.builtinCode], c.version) for name in NETWORKS for c in graph_of(name)[0].operatorCodes]
    assert {name for name, _ in found} >= {"ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D"}
    assert [(name, version) for name, version in found if version != first.get(name, 2)] == []


def test_equal_vectors_are_stored_once() -> None:
    """16 zero points are held by four layers of ResNet-8 and their biases."""
    buf = data("resnet8")
    graph = schema.Model.GetRootAs(buf, 0).Subgraphs(0)
    places = set()
    for i in range(graph.TensorsLength()):
        table = graph.Tensors(i).Quantization()
        if table is not None and table.ZeroPointLength() == 16:
            places.add(table._tab.Vector(table._tab.Offset(10)))
    assert len(places) == 1


@pytest.mark.parametrize("runtime", ["litert", *PYTHONS])
def test_one_scale_for_all_channels_changes_no_integer(agent_for, monkeypatch, runtime: str) -> None:
    """A linear layer whose channels share a scale is written with one; as many equal ones give the same."""
    q, x = per_tensor(quantized_network("lenet5"), 120, 84, 10), images((1, 28, 28), 20).transpose(0, 2, 3, 1).copy()
    files = [export_tflite_int8(q, version="0").data]
    monkeypatch.setattr(int8, "_of_weights", lambda _, s, axis: symmetric(s, axis))
    files.append(export_tflite_int8(q, version="0").data)
    assert len(files[0]) < len(files[1])
    outputs = []
    for file in files:
        with agent_for(runtime).open(runtime, file, "lenet5.tflite") as session:
            outputs.append(session.infer([x])[0])
    np.testing.assert_array_equal(*outputs)
