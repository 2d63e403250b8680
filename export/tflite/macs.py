"""Multiply-accumulates of a TFLite file, operator by operator."""

from __future__ import annotations

import math
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgecnn.export.tflite.parse import kind_of

_WITH_MACS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def macs_of(data: bytes) -> int:
    """Multiply-accumulates of one sample."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    return sum(
        _operator(kind, graph, op)
        for graph in model.subgraphs
        for op in graph.operators or []
        if (kind := kind_of(model, op)) in _WITH_MACS
    )


def _operator(kind: str, graph: Any, op: Any) -> int:
    def shape(index: int) -> list[int]:
        return [int(size) for size in graph.tensors[index].shape]

    weights, result = shape(op.inputs[1]), shape(op.outputs[0])
    if kind == "TRANSPOSE_CONV":  # its inputs are the result's shape, the weights (O, H, W, I) and the input
        return math.prod(shape(op.inputs[2])) * math.prod(weights) // weights[3]
    if kind == "DEPTHWISE_CONV_2D":  # weights (1, H, W, channels of the result)
        return math.prod(result) * math.prod(weights[:3])
    return math.prod(result) * math.prod(weights) // weights[0]
