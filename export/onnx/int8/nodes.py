"""The graph that an int8 ONNX file holds: a quantized graph, and the form that each of its nodes is written in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from edgecnn.export.onnx.int8.fold import Fold
from edgecnn.export.onnx.lower import over_image
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Conv2d, Linear, Mean, ValueName
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.types import Array

CHANNELS = 1
"""The axis of an image's channels."""
OFFSET = 128
"""uint8 = int8 + 128."""


@dataclass(frozen=True, slots=True)
class IntegerNode:
    """An operator between DequantizeLinear and QuantizeLinear, which ONNX Runtime fuses into its integer kernel."""

    node: Node


@dataclass(frozen=True, slots=True)
class ReshapedNode:
    """An integer operator that gives fewer or more axes than its value has; a Reshape gives it the value's axes."""

    node: Node


@dataclass(frozen=True, slots=True)
class FloatNode:
    """A layer that the recipe leaves in float."""

    node: Node


@dataclass(frozen=True, slots=True)
class FoldedConv:
    """A convolution of blocks: neighbors in a row of the image are channels."""

    node: Node
    fold: Fold


@dataclass(frozen=True, slots=True)
class HalvesPool:
    """A max pooling of two by two that reads blocks in which the even places stand before the odd ones."""

    node: Node
    fold: Fold


@dataclass(frozen=True, slots=True)
class ExactConv:
    """A convolution of whole numbers in float32; it gives accumulators, in so many channels, zeros included."""

    node: Node
    channels: int


@dataclass(frozen=True, slots=True)
class AccumulatorPool:
    """A max pooling of accumulators, before they are scaled and rounded."""

    node: Node


@dataclass(frozen=True, slots=True)
class ChannelsLastLinear:
    """A linear layer that reads an image as it is stored, channels last; its weights' columns have that order."""

    node: Node


@dataclass(frozen=True, slots=True)
class ChannelsLastMean:
    """A mean over each image, whose channels are stored last, as rows of features."""

    node: Node


@dataclass(frozen=True, slots=True)
class ChannelsLastSlice:
    """A slice of rows or columns of an image that is stored with its channels last."""

    node: Node


@dataclass(frozen=True, slots=True)
class ChannelsLastDepthToSpace:
    """A DepthToSpace that moves all channels of a place at once, stored last."""

    node: Node


FileNode = (
    IntegerNode
    | ReshapedNode
    | FloatNode
    | FoldedConv
    | HalvesPool
    | ExactConv
    | AccumulatorPool
    | ChannelsLastLinear
    | ChannelsLastMean
    | ChannelsLastSlice
    | ChannelsLastDepthToSpace
)
Kind = TypeVar("Kind", bound=FileNode)


@dataclass(frozen=True, kw_only=True)
class FileGraph:
    """What is written.

    Attributes:
        quantized: The quantized graph. Values and nodes have the names of the program's.
        nodes: By value, the form that its node is written in.
        channels: How many channels values have in the file, for those that may have channels of zeros after their own.
        uint8_layers: The layers whose weights are stored as uint8, those of the others being int8.
    """

    quantized: QuantizedGraph
    nodes: Mapping[ValueName, FileNode]
    channels: Mapping[ValueName, int] = field(default_factory=lambda: MappingProxyType({}))
    uint8_layers: frozenset[ValueName] = frozenset()

    @property
    def graph(self) -> Graph:
        """The graph of operators."""
        return self.quantized.graph

    @cached_property
    def uint8_weights(self) -> frozenset[ValueName]:
        """The weights that those layers read."""
        ops = [n.op for n in self.graph.nodes if n.name in self.uint8_layers]
        return frozenset(op.weight for op in ops if isinstance(op, Conv2d | Linear))

    def of_kind(self, kind: type[Kind]) -> dict[ValueName, Kind]:
        """The nodes of one kind."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, kind)}

    def with_nodes(self, nodes: Iterable[FileNode]) -> FileGraph:
        """This graph with some nodes in other forms."""
        return replace(self, nodes={**self.nodes, **{n.node.name: n for n in nodes}})


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """A layer's integer weights as the file holds them: int8 with zero point 0, or uint8 with zero point 128."""

    integers: Array
    zero_point: Array

    def zeros(self, count: int) -> Array:
        """The zero points of so many channels."""
        return np.full(count, self.zero_point)


def stored_weights(graph: FileGraph, weight: ValueName, integers: Array) -> StoredWeights:
    """The integers of a weight, or of one that was made from it, as the file holds them."""
    if weight not in graph.uint8_weights:
        return StoredWeights(integers, np.array(0, integers.dtype))
    return StoredWeights((integers.astype(np.int16) + OFFSET).astype(np.uint8), np.array(OFFSET, np.uint8))


def plain_file_graph(q: QuantizedGraph, channels: Mapping[ValueName, int] = MappingProxyType({})) -> FileGraph:
    """Every node in its plain form: in float where the program skips it, else as an integer operator."""
    return FileGraph(quantized=q, nodes={n.name: _plain(q, n) for n in q.graph.nodes}, channels=channels)


def _plain(q: QuantizedGraph, node: Node) -> FileNode:
    if node.name in q.skipped:
        return FloatNode(node)
    match node.op:
        case Linear() if len(node.shape) != 2:
            return ReshapedNode(node)
        case Mean(keepdim=False) as op if over_image(q.graph, op):
            return ReshapedNode(node)
    return IntegerNode(node)


def with_zeros(array: Array, shape: Iterable[int]) -> Array:
    """An array with zeros after its own numbers, up to a shape."""
    return np.pad(array, [(0, to - n) for to, n in zip(shape, array.shape, strict=True)])
