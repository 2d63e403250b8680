"""Which images ONNX Runtime stores with their channels last when it runs an int8 file."""

from __future__ import annotations

from edgecnn.export.onnx.int8.exact_float_layers import exact_float_layers
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import Add, AvgPool2d, Clamp, Conv2d, Linear, MaxPool2d, Mean, Mul, Relu, Slice, ValueName
from edgecnn.program.quantized import QuantizedGraph

IMAGE = 4
"""Axes of an image."""
_FOLLOWS = MaxPool2d | AvgPool2d | Mean | Add | Mul | Relu | Clamp | Slice
"""What it does to images as they are stored."""


def stored_last(q: QuantizedGraph) -> frozenset[ValueName]:
    """The images that its integer convolutions give, and those that are made of these as they are stored."""
    exact, found = exact_float_layers(q), set[ValueName]()
    for node in q.graph.nodes:
        if node.name in q.skipped or node.name in exact or len(node.shape) != IMAGE:
            continue
        computed = {x for x in node.inputs if x not in q.graph.constants}
        if isinstance(node.op, Conv2d) or (isinstance(node.op, _FOLLOWS) and computed <= found):
            found.add(node.name)
    return frozenset(found)


def reads_as_stored(graph: Graph, op: Linear, last: frozenset[ValueName]) -> bool:
    """Whether a linear layer's columns are in the order of an image that is stored with its channels last."""
    return op.flatten and op.x in last and len(graph.shapes[op.x]) == IMAGE
