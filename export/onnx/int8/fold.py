"""int8 in ONNX with convolutions folded: see export/onnx/int8/folding.py.

Images are stored with their channels first. Transposed, neighbours in a row lie side by side, a Reshape makes channels
of them, and a second Transpose puts these first; behind the convolution all that is undone. ONNX Runtime's integer
convolution stores channels last by itself: its transpositions and these cancel, and a Reshape copies nothing.

The file holds the layer's own weights. What copies them into place is folded when ONNX Runtime loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.export.onnx.int8.channels_last import reads_as_stored, stored_last
from edgecnn.export.onnx.int8.folding import Fold, folds, spread
from edgecnn.export.onnx.int8.mixed import LOWERINGS as MIXED
from edgecnn.export.onnx.int8.mixed import MixedQdqWriter
from edgecnn.export.onnx.lower import conv_attributes
from edgecnn.export.written import Place
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Conv2d,
    DepthToSpace,
    Linear,
    MaxPool2d,
    Mean,
    Op,
    Slice,
    ValueName,
)
from edgecnn.program.quantized import QuantizedGraph

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
NODE_BYTES = 128
"""About what an operator takes in the file."""


class FoldingWriter(MixedQdqWriter):
    """The int8 writer, with the convolutions that :func:`~edgecnn.export.onnx.int8.folding.folds` names folded."""

    def __init__(
        self,
        graph: Graph,
        opset: int,
        quantized: QuantizedGraph,
        io: str = "float32",
        wide: Mapping[ValueName, int] = MappingProxyType({}),
    ) -> None:
        self.folds = folds(quantized)
        self._blocks: dict[tuple[ValueName, int, int], str] = {}
        self._tiles: dict[tuple[str, int], str] = {}
        self.last = stored_last(quantized)
        self._rows: dict[str, tuple[str, int]] = {}
        """By folded image: what it was folded from, channels last, and how many those are; for who folds it anew."""
        super().__init__(graph, opset, quantized, io, wide)

    def write_folded(self, node: Node, op: Conv2d, fold: Fold) -> None:
        """Add a convolution of blocks."""
        weights = self._q.weights[op.weight]
        extra = fold.given - len(weights.integers)
        scales = np.pad(weights.scales, (0, extra), constant_values=1)
        biases = self._tiled(f"{node.name}.bias.q", np.pad(self._q.biases[node.name], (0, extra)), fold.outputs)
        inputs = [
            self._blocked(op.x, fold),
            self._decoded_by(f"{node.name}.weights", self._folded_weights(node, op, fold), scales, fold, weights=True),
            self._decoded_by(
                f"{node.name}.bias", biases, scales * self._q.activations[op.x].scale, fold, weights=False
            ),
        ]
        rows = self.graph.shapes[op.weight][2]
        given = conv_attributes(self, fold.convolution(op)) | {"kernel_shape": [rows, fold.width]}
        self.emit_activated("Conv", node, inputs, **given)

    def places(self, value: ValueName) -> list[Place]:
        """As before, and the blocks that a value is given in; none where these are out of order."""
        fold = self.folds.get(value)
        if fold is not None and fold.halves:
            return []
        found = super().places(value)
        for place in found[:1]:
            if place.tensor in self._rows:
                blocks, channels = self._rows[str(place.tensor)]
                _, wide, height, width = self.graph.shapes[value]
                shape = (height, width * wide // channels, channels)
                found.append(replace(place, tensor=blocks, axes=CHANNELS_LAST, shape=shape))
        return found

    def write_rows(self, node: Node, op: Linear) -> None:
        """Add a linear layer that reads an image as it is stored, its columns in that order."""
        weights, (_, *image) = self._q.weights[op.weight], self.graph.shapes[op.x]
        self.tensor(op.x)
        last = self._to(self._integers[op.x], f"{node.name}.last", CHANNELS_LAST)
        flat = self.node("Flatten", [last], f"{node.name}.flatten.q", axis=1)
        x = self.node("DequantizeLinear", [flat, *self._params(self._q.activations[op.x])], f"{node.name}.flatten")
        columns = weights.integers.reshape(-1, *image).transpose(CHANNELS_LAST).reshape(weights.integers.shape)
        name = op.weight if image[1:] == [1, 1] else f"{op.weight}.last"
        inputs = [x, self._dequantize(name, columns, weights.scales, 0, axis=0), *self.bias(node, op.bias)]
        self.emit_activated("Gemm", node, inputs, transB=1)

    def write_part(self, node: Node, op: Slice) -> None:
        """Add a slice of rows or columns of an image as it is stored."""
        self.tensor(op.x)
        last = self._to(self._integers[op.x], f"{node.name}.last", CHANNELS_LAST)
        numbers = (op.start, op.stop, op.axis - 1, op.step)
        part = self.node("Slice", [last, *(self.integers([n]) for n in numbers)], f"{node.name}.part")
        self._give(node, self._to(part, f"{node.name}.q", CHANNELS_FIRST))

    def write_depth_to_space(self, node: Node, op: DepthToSpace) -> None:
        """Add what moves whole rows of channels, where ONNX Runtime's DepthToSpace moves one element at a time."""
        self.tensor(op.x)
        (_, _, height, width), (_, channels, *image), block = self.graph.shapes[op.x], node.shape, op.block
        last = self._to(self._integers[op.x], f"{node.name}.last", CHANNELS_LAST)
        split = self._shaped(last, f"{node.name}.split", (0, height, width, block, block * channels))
        rows = self._to(split, f"{node.name}.rows", (0, 1, 3, 2, 4))
        joined = self._shaped(rows, f"{node.name}.joined", (0, *image, channels))
        self._give(node, self._to(joined, f"{node.name}.q", CHANNELS_FIRST))

    def _give(self, node: Node, integers: str) -> None:
        """Let a tensor be a node's integers."""
        result = self.result(node)
        inputs = [integers, *self._params(self._q.activations[node.name])]
        self._integers[node.name] = integers
        self._dequantized[node.name] = self.node("DequantizeLinear", inputs, result, name=f"{result}.dequantize")

    def _decoded_by(
        self, name: str, integers: str, scales: npt.NDArray[np.float32], fold: Fold, *, weights: bool
    ) -> str:
        """Integers dequantized, by a scale for each channel of each place of a block."""
        scale = self._tiled(f"{name}.scale", scales, fold.outputs)
        zero = [self._tiled(f"int8:zeros:{fold.given}", np.zeros(fold.given, np.int8), fold.outputs)] * weights
        return self.node("DequantizeLinear", [integers, scale, *zero], name, name="", axis=0)

    def _tiled(self, name: str, array: npt.NDArray[Any], times: int) -> str:
        """Numbers in so many copies, made when the file is loaded where that makes it smaller."""
        if array.nbytes * (times - 1) <= NODE_BYTES:
            return self.initializer(f"{name}:{times}", np.tile(array, times))
        if (name, times) not in self._tiles:
            parts = [self.initializer(name, array), self.integers([times])]
            self._tiles[name, times] = self.node("Tile", parts, f"{name}:{times}", name="")
        return self._tiles[name, times]

    def _folded_weights(self, node: Node, op: Conv2d, fold: Fold) -> str:
        """:meth:`~edgecnn.export.onnx.int8.folding.Fold.weights`, made of the layer's own when the file is loaded."""
        weights, name = spread(self._q.weights[op.weight].integers, op.dilation[1]), f"{node.name}.w"
        own = self.initializer(f"{node.name}.own" if op.dilation[1] > 1 else f"{op.weight}.q", weights)
        outs, ins, rows, columns = weights.shape
        before, reach = fold.reach(op, columns)
        start = before + fold.shift(op, 0)
        # Copies one after the other, cut into rows that are shorter by the stride: each row begins later by that much.
        pads = (0, 0, 0, start, fold.given - outs, fold.read - ins, 0, reach + op.stride[1] - start - columns)
        row = self.node("Pad", [own, self.integers(pads)], f"{name}1")
        copies = self.node("Tile", [row, self.integers((1, 1, 1, fold.outputs))], f"{name}2")
        cut = self._cut(copies, f"{name}3", (0, fold.outputs * reach, 3))
        shape = (fold.given, fold.read, rows, fold.outputs)
        if reach > fold.width * fold.inputs:
            cut = self._shaped(cut, f"{name}4", (*shape, reach))
            cut = self._cut(cut, f"{name}5", (before, before + fold.width * fold.inputs, 4))
        halves = 2 if fold.halves else 1
        parts = (fold.outputs // halves, halves, fold.width, fold.inputs)
        split = self._shaped(cut, f"{name}6", (*shape[:3], *parts))
        moved = self._to(split, f"{name}7", (4, 3, 0, 1, 6, 2, 5) if fold.planes else (4, 3, 0, 6, 1, 2, 5))
        folded = (fold.outputs * fold.given, fold.inputs * fold.read, rows, fold.width)
        return self._shaped(moved, f"{node.name}.weights.q", folded)

    def _blocked(self, value: ValueName, fold: Fold) -> str:
        """The dequantized tensor of an image as a fold reads it."""
        key = (value, fold.inputs, fold.read)
        if key not in self._blocks:
            self.tensor(value)
            name, (_, channels, height, width) = f"{value}.blocks{fold.inputs}", self.graph.shapes[value]
            integers, params = self._integers[value], self._params(self._q.activations[value])
            beyond = fold.beyond(width)
            if fold.read > channels or beyond:
                pads = self.integers((0, 0, 0, 0, 0, fold.read - channels, 0, beyond))
                integers = self.node("Pad", [integers, pads, params[1]], f"{name}.wide")
            if fold.inputs > 1:
                shape = (fold.read * fold.inputs, height, (width + beyond) // fold.inputs)
                if fold.planes:
                    integers = self._planes(integers, name, fold, shape)
                else:
                    integers = self._refolded(integers, name, fold.read, shape)
            self._blocks[key] = self.node("DequantizeLinear", [integers, *params], f"{name}.real")
        return self._blocks[key]

    def _arranged(self, node: Node, integers: str) -> str:
        fold = self.folds.get(node.name)
        if fold is None:
            pooled = self.folds.get(node.op.x) if isinstance(node.op, MaxPool2d) else None
            if pooled is None or not pooled.halves:
                if isinstance(node.op, Mean) and self._flat(node) and node.op.x in self.last:
                    integers = self._to(integers, f"{node.name}.last", CHANNELS_LAST)
                return super()._arranged(node, integers)
            return self._refolded(integers, f"{node.name}.image", node.shape[1] * pooled.outputs // 2, node.shape[1:])
        _, channels, height, width = node.shape
        if fold.halves:
            shape = (channels * fold.outputs // 2, height, 2 * width // fold.outputs)
            return self._refolded(integers, f"{node.name}.halves", 2 * shape[0], shape)
        if fold.outputs > 1:
            taken = fold.given * fold.outputs
            integers = self._refolded(integers, f"{node.name}.image", taken, (fold.given, height, width))
        if fold.given > channels:
            integers = self._cut(integers, f"{node.name}.narrow", (0, channels, 1))
        return integers

    def _planes(self, integers: str, name: str, fold: Fold, shape: tuple[int, int, int]) -> str:
        """Integers of an image with its channels first as blocks (channels, rows, blocks) that hold them in order."""
        channels, rows, blocks = shape
        if fold.read > 1:
            split = self._shaped(integers, f"{name}.split", (0, fold.read, rows * blocks, fold.inputs))
            integers = self._to(split, f"{name}.moved", (0, 2, 1, 3))
        joined = self._shaped(integers, f"{name}.joined", (0, rows, blocks, channels))
        return self._to(joined, name, CHANNELS_FIRST)

    def _refolded(self, integers: str, name: str, channels: int, shape: tuple[int, ...]) -> str:
        """Integers of an image of so many channels as one of another (channels, rows, places)."""
        if integers in self._rows:
            last, channels = self._rows[integers]
        else:
            last = self._to(integers, f"{name}.last", CHANNELS_LAST) if channels > 1 else integers
        self._rows[name] = last, channels
        if shape[0] != channels:
            last = self._shaped(last, f"{name}.split", (0, *shape[1:], shape[0]))
        return self._to(last, name, CHANNELS_FIRST)

    def _cut(self, x: str, name: str, bounds: tuple[int, int, int]) -> str:
        """From where to where, along which axis."""
        return self.node("Slice", [x, *(self.integers([n]) for n in bounds)], name)

    def _to(self, x: str, name: str, order: tuple[int, ...]) -> str:
        return self.node("Transpose", [x], name, perm=list(order))

    def _shaped(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        return self.node("Reshape", [x, self.integers(shape)], name)


def lower_conv2d(w: FoldingWriter, node: Node, op: Conv2d) -> None:
    """Conv of blocks, or as in :mod:`~edgecnn.export.onnx.int8.mixed`."""
    fold = w.folds.get(node.name)
    if fold is None:
        MIXED[Conv2d](w, node, op)
    else:
        w.enter(node)
        w.write_folded(node, op, fold)


def lower_depth_to_space(w: FoldingWriter, node: Node, op: DepthToSpace) -> None:
    """Transpositions of channels stored last, or as in :mod:`~edgecnn.export.onnx.int8.mixed`."""
    if node.name in w.skipped or op.channels_first:
        MIXED[DepthToSpace](w, node, op)
    else:
        w.enter(node)
        w.write_depth_to_space(node, op)


def lower_linear(w: FoldingWriter, node: Node, op: Linear) -> None:
    """Gemm of an image as it is stored, or as in :mod:`~edgecnn.export.onnx.int8.mixed`."""
    if node.name not in w.skipped and reads_as_stored(w.graph, op, w.last):
        w.enter(node)
        w.write_rows(node, op)
    else:
        MIXED[Linear](w, node, op)


def lower_slice(w: FoldingWriter, node: Node, op: Slice) -> None:
    """Slice of an image as it is stored, or as in :mod:`~edgecnn.export.onnx.int8.mixed`."""
    if node.name not in w.skipped and op.axis > 1 and op.x in w.last:
        w.enter(node)
        w.write_part(node, op)
    else:
        MIXED[Slice](w, node, op)


LOWERINGS: Mapping[type[Op], Callable[[FoldingWriter, Node, Any], None]] = MappingProxyType(
    {**MIXED, Conv2d: lower_conv2d, DepthToSpace: lower_depth_to_space, Linear: lower_linear, Slice: lower_slice}
)
