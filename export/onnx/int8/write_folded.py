"""Folded convolutions in the file.

The file holds the layer's own weights. What copies them into place is computed when ONNX Runtime loads it.
"""

from __future__ import annotations

import numpy as np

from edgecnn.export.onnx.file import OnnxFile
from edgecnn.export.onnx.int8.blocks import Blocks
from edgecnn.export.onnx.int8.fold import Fold, spread
from edgecnn.export.onnx.int8.nodes import FileGraph, FoldedConv, StoredWeights, stored_weights
from edgecnn.export.onnx.int8.tensors import QuantizedTensors
from edgecnn.export.onnx.lower import conv_attributes
from edgecnn.graph.ops import Conv2d
from edgecnn.types import Array, FloatArray

NODE_BYTES = 128
"""About what an operator takes in the file."""


class FoldedWriter:
    """Writes folded convolutions; copies of numbers are shared among them."""

    def __init__(self, file: OnnxFile, graph: FileGraph, tensors: QuantizedTensors, blocks: Blocks) -> None:
        self._file, self._graph, self._tensors, self._blocks = file, graph, tensors, blocks
        self._tiles: dict[tuple[str, int], str] = {}

    def write(self, n: FoldedConv) -> None:
        """Add a convolution of blocks."""
        node, op, fold, q = n.node, n.node.op, n.fold, self._graph.quantized
        assert isinstance(op, Conv2d)
        weights = q.weights[op.weight]
        extra = fold.given - len(weights.integers)
        scales = np.pad(weights.scales, (0, extra), constant_values=1)
        biases = self._tiled(f"{node.name}.bias.q", np.pad(q.biases[node.name], (0, extra)), fold.outputs)
        x = self._blocks.read(op.x, fold)
        stored = stored_weights(self._graph, op.weight, spread(weights.integers, op.dilation[1]))
        folded = self._folded_weights(node.name, op, fold, stored)
        zeros = stored.zeros(fold.given)
        real_weights = self._dequantized(f"{node.name}.weights", folded, scales, fold, zeros)
        scales = scales * q.activations[op.x].scale
        inputs = [x, real_weights, self._dequantized(f"{node.name}.bias", biases, scales, fold)]
        kernel = [self._graph.graph.shapes[op.weight][2], fold.width]
        attributes = conv_attributes(self._graph.graph, fold.convolution(op)) | {"kernel_shape": kernel}
        self._tensors.give(node, "Conv", inputs, attributes)

    def _dequantized(self, name: str, integers: str, scales: FloatArray, fold: Fold, zeros: Array | None = None) -> str:
        """Integers dequantized by a scale for each channel of each place of a block; weights have zero points too.

        Each layer has its own zero points: on x86 without VNNI ONNX Runtime converts weights and zero points layer by
        layer (`session.x64quantprecision`), and refuses a file in which two layers share them.
        """
        inputs = [integers, self._tiled(f"{name}.scale", scales, fold.outputs)]
        if zeros is not None:
            inputs.append(self._tiled(f"{name}.zero", zeros, fold.outputs))
        return self._file.node("DequantizeLinear", inputs, name, name="", axis=0)

    def _tiled(self, name: str, array: Array, times: int) -> str:
        """Numbers in so many copies, made when the file is loaded where that makes it smaller."""
        if array.nbytes * (times - 1) <= NODE_BYTES:
            return self._file.initializer(f"{name}:{times}", np.tile(array, times))
        if (name, times) not in self._tiles:
            parts = [self._file.initializer(name, array), self._file.integers([times])]
            self._tiles[name, times] = self._file.node("Tile", parts, f"{name}:{times}", name="")
        return self._tiles[name, times]

    def _folded_weights(self, layer: str, op: Conv2d, fold: Fold, stored: StoredWeights) -> str:
        """:meth:`~edgecnn.export.onnx.int8.fold.Fold.weights`, made of the layer's own when the file is loaded."""
        file, name, weights = self._file, f"{layer}.w", stored.integers
        own = file.initializer(
            f"{layer}.own" if op.dilation[1] > 1 else f"{self._tensors.layer_copy(op.weight)}.q", weights
        )
        outs, ins, rows, columns = weights.shape
        before, reach = fold.reach(op, columns)
        start = before + fold.shift(op, 0)
        # Copies one after the other, cut into rows that are shorter by the stride: each row begins later by that much.
        pads = (0, 0, 0, start, fold.given - outs, fold.read - ins, 0, reach + op.stride[1] - start - columns)
        fill = [file.initializer(f"{name}.fill", stored.zero_point)] if stored.zero_point else []
        row = file.node("Pad", [own, file.integers(pads), *fill], f"{name}1")
        copies = file.node("Tile", [row, file.integers((1, 1, 1, fold.outputs))], f"{name}2")
        cut = file.slice(copies, f"{name}3", (0, fold.outputs * reach, 3))
        shape = (fold.given, fold.read, rows, fold.outputs)
        if reach > fold.width * fold.inputs:
            cut = file.reshape(cut, f"{name}4", (*shape, reach))
            cut = file.slice(cut, f"{name}5", (before, before + fold.width * fold.inputs, 4))
        halves = 2 if fold.halves else 1
        parts = (fold.outputs // halves, halves, fold.width, fold.inputs)
        split = file.reshape(cut, f"{name}6", (*shape[:3], *parts))
        moved = file.transpose(split, f"{name}7", (4, 3, 0, 1, 6, 2, 5) if fold.planes else (4, 3, 0, 6, 1, 2, 5))
        folded = (fold.outputs * fold.given, fold.inputs * fold.read, rows, fold.width)
        return file.reshape(moved, f"{layer}.weights.q", folded)
