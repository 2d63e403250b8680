"""The writer of int8 ONNX files: a row per kind of node."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from edgecnn.export.lowering import lower_all
from edgecnn.export.onnx.file import OnnxFile, inner_names, public_names
from edgecnn.export.onnx.int8 import nodes
from edgecnn.export.onnx.int8.accumulators import Accumulators
from edgecnn.export.onnx.int8.blocks import Blocks
from edgecnn.export.onnx.int8.channels_last import CHANNELS_FIRST, CHANNELS_LAST
from edgecnn.export.onnx.int8.exact import METADATA
from edgecnn.export.onnx.int8.nodes import OFFSET, FileGraph, FileNode
from edgecnn.export.onnx.int8.tensors import IO_TYPES, QuantizedTensors
from edgecnn.export.onnx.int8.write_exact import ExactWriter
from edgecnn.export.onnx.int8.write_folded import FoldedWriter
from edgecnn.export.onnx.lower import LOWERINGS, write_gemm
from edgecnn.export.onnx.write import FloatTensors, OnnxWriter
from edgecnn.export.written import Place, Written
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import DepthToSpace, Linear, Op, Slice, ValueName


class OnnxInt8Writer:
    """What the rows of the table write with.

    Attributes:
        graph: What is written.
        file: The file under construction.
        tensors: The integers of values.
        accumulators: The values that are held as accumulators.
        blocks: The images that are held as blocks.
        integer_layers: Lowers operators between pairs.
        float_layers: Lowers operators that stay in float.
        folded: Writes folded convolutions.
        exact: Writes exact float layers.
    """

    def __init__(self, graph: FileGraph, opset: int, io: str) -> None:
        names = public_names(graph.graph) if io == "float32" else inner_names(graph.graph)
        self.graph, self.io = graph, io
        self.file = OnnxFile(graph.graph, opset, names)
        self.accumulators = Accumulators(self.file, graph)
        self.tensors = QuantizedTensors(self.file, graph, io, self.accumulators, self._arranged)
        self.blocks = Blocks(self.file, graph, self.tensors)
        self.integer_layers = OnnxWriter(self.file, self.tensors)
        self.float_layers = OnnxWriter(self.file, FloatTensors(self.file, read=self.tensors.real))
        self.folded = FoldedWriter(self.file, graph, self.tensors, self.blocks)
        self.exact = ExactWriter(self.file, graph, self.tensors, self.accumulators, io)

    def give_up(self, node: Node) -> None:
        """Stand in for a value that cannot be written: its name is all that readers need."""

    def places(self, value: ValueName) -> list[Place]:
        """The tensors that hold a value: accumulators, whole numbers in float, real numbers, integers, and blocks."""
        file, channels, found = self.file, self.graph.channels.get(value, 0), []
        axes = file.axes(value)
        if sums := self.accumulators.of.get(value):
            layer = sums.layer.name
            found.append(Place(tensor=sums.tensor, axes=axes, form="sums", layer=layer, channels=sums.channels))
        whole = [t for t in (f"{value}.rounded", f"{value}.exact") if t in self.accumulators.tensors]
        found += [Place(tensor=tensor, axes=axes, form="centered") for tensor in whole]
        match self.graph.nodes.get(value):
            case nodes.FoldedConv(fold=fold) if fold.halves:  # blocks whose places are out of order
                return found
            case nodes.FloatNode():
                found += file.real_places(value)
        if tensor := self.tensors.held_integers(value):
            place = Place(tensor=tensor, axes=axes, form="integers", offset=OFFSET, channels=channels)
            found += [place, *self._block_places(value, place)]
        return found

    def finish(self, version: str) -> Written:
        """Serialize, without what no output is computed from: pairs that all readers take another form of.

        Raises:
            LoweringError: if ONNX's own checker refuses the model.
        """
        read = self.tensors.finish_outputs()
        layers = list(self.graph.of_kind(nodes.ExactConv))
        if layers:
            marks = {"layers": layers, "tensors": sorted(self.accumulators.tensors)}
            self.file.metadata[METADATA] = json.dumps(marks)
            self.file.notes.append(
                f"{', '.join(layers)}: the same integers, computed in float32 (exactly: no sum reaches 2^24), where"
                " ONNX Runtime is faster"
            )
        self.file.prune(read)
        self.tensors.place_outputs()
        return self.file.finish(self.places, version=version, io_type=IO_TYPES[self.io])

    def _arranged(self, node: Node, integers: str) -> str:
        n = self.graph.nodes[node.name]
        return ROWS[type(n)].arrange(self, n, integers)

    def _block_places(self, value: ValueName, place: Place) -> list[Place]:
        if place.tensor not in self.blocks.sources:
            return []
        blocks, channels = self.blocks.sources[str(place.tensor)]
        _, wide, height, width = self.file.graph.shapes[value]
        shape = (height, width * wide // channels, channels)
        return [replace(place, tensor=blocks, axes=CHANNELS_LAST, shape=shape)]


def as_given(w: OnnxInt8Writer, n: FileNode, integers: str) -> str:  # noqa: ARG001
    """Integers as an operator gives them."""
    return integers


def with_all_axes(w: OnnxInt8Writer, n: FileNode, integers: str) -> str:
    """Integers with the axes of the node's value."""
    to = (-1, *n.node.shape[1:]) if w.file.batch_free else n.node.shape
    return w.file.reshape(integers, f"{n.node.name}.shaped", to)


def mean_with_all_axes(w: OnnxInt8Writer, n: nodes.ChannelsLastMean, integers: str) -> str:
    """Means of channels stored last as rows: they have one place each."""
    return with_all_axes(w, n, w.file.transpose(integers, f"{n.node.name}.last", CHANNELS_LAST))


def write_integer(w: OnnxInt8Writer, n: FileNode) -> None:
    """The operator between pairs, as it is written in float."""
    LOWERINGS[type(n.node.op)](w.integer_layers, n.node, n.node.op)


def write_float(w: OnnxInt8Writer, n: nodes.FloatNode) -> None:
    """The operator on real numbers."""
    LOWERINGS[type(n.node.op)](w.float_layers, n.node, n.node.op)


def write_channels_last_linear(w: OnnxInt8Writer, n: nodes.ChannelsLastLinear) -> None:
    """Gemm of an image as it is stored."""
    node, op = n.node, n.node.op
    assert isinstance(op, Linear)
    rows = w.tensors.flattened(node, op.x, _last(w, node, op.x), axis=1)
    write_gemm(w.integer_layers, node, op, rows)


def write_channels_last_slice(w: OnnxInt8Writer, n: nodes.ChannelsLastSlice) -> None:
    """Slice of an image as it is stored: the Transpose cancels ONNX Runtime's own."""
    node, op = n.node, n.node.op
    assert isinstance(op, Slice)
    part = w.file.slice(_last(w, node, op.x), f"{node.name}.part", (op.start, op.stop, op.axis - 1, op.step))
    w.tensors.give_integers(node, w.file.transpose(part, f"{node.name}.q", CHANNELS_FIRST))


def write_channels_last_depth_to_space(w: OnnxInt8Writer, n: nodes.ChannelsLastDepthToSpace) -> None:
    """Transpositions of whole rows of channels, where ONNX Runtime's DepthToSpace moves one element at a time."""
    node, op = n.node, n.node.op
    assert isinstance(op, DepthToSpace)
    (_, _, height, width), (_, channels, *image), block = w.file.graph.shapes[op.x], node.shape, op.block
    last = _last(w, node, op.x)
    split = w.file.reshape(last, f"{node.name}.split", (0, height, width, block, block * channels))
    rows = w.file.transpose(split, f"{node.name}.rows", (0, 1, 3, 2, 4))
    joined = w.file.reshape(rows, f"{node.name}.joined", (0, *image, channels))
    w.tensors.give_integers(node, w.file.transpose(joined, f"{node.name}.q", CHANNELS_FIRST))


def _last(w: OnnxInt8Writer, node: Node, image: ValueName) -> str:
    """The integers of an image that a node reads, channels last."""
    return w.file.transpose(w.tensors.integers(image), f"{node.name}.last", CHANNELS_LAST)


@dataclass(frozen=True, slots=True)
class NodeRow:
    """How a kind of node is written, and how the integers that its operator gives become those of its value."""

    write: Callable[[OnnxInt8Writer, Any], None]
    arrange: Callable[[OnnxInt8Writer, Any, str], str] = as_given


ROWS: Mapping[type[FileNode], NodeRow] = MappingProxyType(
    {
        nodes.IntegerNode: NodeRow(write_integer),
        nodes.ReshapedNode: NodeRow(write_integer, with_all_axes),
        nodes.FloatNode: NodeRow(write_float),
        nodes.FoldedConv: NodeRow(lambda w, n: w.folded.write(n), lambda w, n, x: w.blocks.unfolded(n, x)),
        nodes.HalvesPool: NodeRow(write_integer, lambda w, n, x: w.blocks.pooled(n, x)),
        nodes.ExactConv: NodeRow(lambda w, n: w.exact.write(n)),
        nodes.AccumulatorPool: NodeRow(lambda w, n: w.exact.write_pool(n)),
        nodes.ChannelsLastLinear: NodeRow(write_channels_last_linear),
        nodes.ChannelsLastMean: NodeRow(write_integer, mean_with_all_axes),
        nodes.ChannelsLastSlice: NodeRow(write_channels_last_slice),
        nodes.ChannelsLastDepthToSpace: NodeRow(write_channels_last_depth_to_space),
    }
)


def write_int8(graph: FileGraph, opset: int, io: str, *, version: str) -> Written:
    """Write a graph whose inputs and outputs have the type ``io``.

    Raises:
        LoweringError: if ONNX cannot express the graph.
    """
    writer = OnnxInt8Writer(graph, opset, io)
    lower_all(graph.graph, writer, dict.fromkeys(LOWERINGS, _write_node), "ONNX")
    return writer.finish(version)


def _write_node(w: OnnxInt8Writer, node: Node, op: Op) -> None:  # noqa: ARG001  (the kind of node decides)
    n = w.graph.nodes[node.name]
    ROWS[type(n)].write(w, n)
