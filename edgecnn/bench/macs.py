"""Multiply-accumulates of an artifact, summed over the operators in its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_TFLITE = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def macs_of(form: str, data: bytes) -> int | None:
    """Multiply-accumulates of one sample; None if they cannot be determined.

    As everywhere in edgecnn, only convolutions and linear layers count. A convolution has ``elements of the result *
    weights / channels of the result``; a transposed convolution has one for each weight that is applied to an element
    of its input.
    """
    return _tflite_macs(data) if form == "tflite" else _onnx_macs(data) if form == "onnx" else None


def _tflite_macs(data: bytes) -> int:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    total = 0
    for graph in model.subgraphs:
        for op in graph.operators or []:
            code = model.operatorCodes[op.opcodeIndex]
            kind = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "")
            if kind in _TFLITE:
                total += _tflite_operator(kind, graph, op)
    return total


def _tflite_operator(kind: str, graph: Any, op: Any) -> int:
    def shape(index: int) -> list[int]:
        return [int(size) for size in graph.tensors[index].shape]

    weights, result = shape(op.inputs[1]), shape(op.outputs[0])
    if kind == "TRANSPOSE_CONV":  # its inputs are the result's shape, the weights (O, H, W, I) and the input
        return math.prod(shape(op.inputs[2])) * math.prod(weights) // weights[3]
    if kind == "DEPTHWISE_CONV_2D":  # weights (1, H, W, channels of the result)
        return math.prod(result) * math.prod(weights[:3])
    return math.prod(result) * math.prod(weights) // weights[0]


def _onnx_macs(data: bytes) -> int | None:
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    graph = model.graph
    known = {v.name: _shape(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    known |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            found = _onnx_operator(node, known)
            if found is None:
                return None
            total += found
    return total


def _onnx_operator(node: Any, known: Mapping[str, list[int]]) -> int | None:
    values, weights, result = (known.get(name) for name in (node.input[0], node.input[1], node.output[0]))
    if values is None or weights is None or result is None:
        return None
    if node.op_type == "ConvTranspose":  # weights (I, O / groups, H, W)
        return math.prod(values) * math.prod(weights) // weights[0]
    if node.op_type == "Conv":  # weights (O, I / groups, H, W)
        return math.prod(result) * math.prod(weights) // weights[0]
    transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(result) * values[-2 if transposed else -1]


def _shape(value: Any) -> list[int]:
    """The shape of a value; the batch, which has a name instead of a size, counts as 1."""
    return [d.dim_value if d.HasField("dim_value") else 1 for d in value.type.tensor_type.shape.dim]
