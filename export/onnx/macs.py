"""Multiply-accumulates of an ONNX file, operator by operator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import onnx


def macs_of(data: bytes) -> int | None:
    """Multiply-accumulates of one sample; None where a shape is not known."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    graph = model.graph
    known = {v.name: _shape(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    known |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            found = _operator(node, known)
            if found is None:
                return None
            total += found
    return total


def _operator(node: Any, known: Mapping[str, list[int]]) -> int | None:
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
    """A value's shape; the batch, which has a name and no size, counts as 1."""
    return [d.dim_value if d.HasField("dim_value") else 1 for d in value.type.tensor_type.shape.dim]
