"""Which images ONNX Runtime stores with their channels last when it runs an int8 file, and what reads them so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from edgecnn.export.onnx.int8.exact import exact_float_layers
from edgecnn.export.onnx.int8.nodes import (
    ChannelsLastDepthToSpace,
    ChannelsLastLinear,
    ChannelsLastMean,
    ChannelsLastSlice,
    FileGraph,
    FileNode,
    IntegerNode,
    ReshapedNode,
)
from edgecnn.export.onnx.int8.runtime_kernels import IMAGE, computed_inputs, takes_any_layout
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Conv2d, DepthToSpace, Linear, Mean, Slice, ValueName
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.types import Array

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""Orders of axes that bring the channels of an image there."""


def stored_last(q: QuantizedGraph) -> frozenset[ValueName]:
    """The images that its integer convolutions give, and those that are computed from these as they are stored."""
    exact, found = exact_float_layers(q), set[ValueName]()
    for node in q.graph.nodes:
        if node.name in q.skipped or node.name in exact or len(node.shape) != IMAGE:
            continue
        follows = takes_any_layout(node) and found.issuperset(computed_inputs(q.graph, node))
        if isinstance(node.op, Conv2d) or follows:
            found.add(node.name)
    return frozenset(found)


def reads_as_stored(graph: Graph, op: Linear, last: frozenset[ValueName]) -> bool:
    """Whether a linear layer's columns are in the order of an image that is stored with its channels last."""
    return op.flatten and op.x in last and len(graph.shapes[op.x]) == IMAGE


def columns_as_stored(rows: Array, image: Sequence[int]) -> Array:
    """Rows of images (rows, C * H * W) as rows of images with their channels last (rows, H * W * C)."""
    return rows.reshape(-1, *image).transpose(CHANNELS_LAST).reshape(rows.shape)


def images_as_stored(graph: FileGraph) -> FileGraph:
    """Let integer operators that only move or add numbers work on images as they are stored, with their channels last.

    Does not apply to float layers, to images that are stored with their channels first, to slices of channels, nor to
    a DepthToSpace whose blocks hold their channels first.
    """
    last = stored_last(graph.quantized)
    for node in graph.nodes.values():
        form = _as_stored(graph, node, last)
        if isinstance(form, ChannelsLastLinear):
            graph = _with_columns_as_stored(graph, form.node)
        elif form is not None:
            graph = graph.with_nodes([form])
    return graph


def _as_stored(graph: FileGraph, node: FileNode, last: frozenset[ValueName]) -> FileNode | None:
    """The form of a node that works on images as they are stored; None where there is none."""
    if not isinstance(node, IntegerNode | ReshapedNode):
        return None
    match node.node.op:
        case Linear() as op if reads_as_stored(graph.graph, op, last):
            return ChannelsLastLinear(node.node)
        case Mean(x=x) if isinstance(node, ReshapedNode) and x in last:
            return ChannelsLastMean(node.node)
        case Slice(x=x, axis=axis) if axis > 1 and x in last:
            return ChannelsLastSlice(node.node)
        case DepthToSpace(channels_first=False):
            return ChannelsLastDepthToSpace(node.node)
    return None


def _with_columns_as_stored(graph: FileGraph, node: Node) -> FileGraph:
    """The graph with a linear layer that has its columns in the order of an image with its channels last."""
    q, op = graph.quantized, node.op
    assert isinstance(op, Linear)
    image = q.graph.shapes[op.x][1:]
    if image[1:] == (1, 1):  # one place: both orders are one
        return graph.with_nodes([ChannelsLastLinear(node)])
    own, columns = q.weights[op.weight], columns_as_stored(q.graph.constants[op.weight], image)
    names = (f"{op.weight}.last{n or ''}" for n in count())
    name = next(n for n in names if np.array_equal(q.graph.constants.get(n, columns), columns))
    moved = replace(node, op=replace(op, weight=name))
    constants = {**q.graph.constants, name: columns}
    nodes = tuple(moved if n.name == node.name else n for n in q.graph.nodes)
    weights = {**q.weights, name: replace(own, integers=columns_as_stored(own.integers, image))}
    written = replace(q, graph=replace(q.graph, nodes=nodes, constants=constants), weights=weights)
    return replace(graph, quantized=written).with_nodes([ChannelsLastLinear(moved)])
