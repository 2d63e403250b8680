"""Images as the blocks that folded convolutions read and give.

Images are stored with their channels first. Transposed, neighbors in a row lie side by side, a Reshape makes channels
of them, and a second Transpose puts these first; after the convolution all that is undone. ONNX Runtime's integer
convolution stores channels last by itself: its transpositions and these cancel, and a Reshape copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.export.onnx.file import OnnxFile
from edgecnn.export.onnx.int8.channels_last import CHANNELS_FIRST, CHANNELS_LAST
from edgecnn.export.onnx.int8.fold import Fold
from edgecnn.export.onnx.int8.nodes import FileGraph, FoldedConv, HalvesPool
from edgecnn.export.onnx.int8.tensors import QuantizedTensors
from edgecnn.graph.ops import ValueName


class Blocks:
    """The images that a file holds as blocks.

    Attributes:
        sources: By image that was made from another by a change of blocks: that one's tensor, channels last, and how
            many channels it has. Another change of blocks starts from it.
    """

    def __init__(self, file: OnnxFile, graph: FileGraph, tensors: QuantizedTensors) -> None:
        self._file, self._graph, self._tensors = file, graph, tensors
        self._read: dict[tuple[ValueName, int, int], str] = {}
        self.sources: dict[str, tuple[str, int]] = {}

    def read(self, value: ValueName, fold: Fold) -> str:
        """The dequantized tensor of an image as a fold reads it."""
        key = (value, fold.inputs, fold.read)
        if key not in self._read:
            self._read[key] = self._dequantized(value, fold)
        return self._read[key]

    def unfolded(self, n: FoldedConv, integers: str) -> str:
        """The image that a folded convolution's blocks are."""
        _, channels, height, width = n.node.shape
        fold, name = n.fold, n.node.name
        if fold.halves:
            shape = (channels * fold.outputs // 2, height, 2 * width // fold.outputs)
            return self._refolded(integers, f"{name}.halves", 2 * shape[0], shape)
        if fold.outputs > 1:
            given = fold.given * fold.outputs
            integers = self._refolded(integers, f"{name}.image", given, (fold.given, height, width))
        if fold.given > channels:
            integers = self._file.slice(integers, f"{name}.narrow", (0, channels, 1))
        return integers

    def pooled(self, n: HalvesPool, integers: str) -> str:
        """The image that a pooling of halves gives as blocks."""
        channels = n.node.shape[1] * n.fold.outputs // 2
        return self._refolded(integers, f"{n.node.name}.image", channels, n.node.shape[1:])

    def _dequantized(self, value: ValueName, fold: Fold) -> str:
        integers = self._tensors.integers(value)
        name, (_, channels, height, width) = f"{value}.blocks{fold.inputs}", self._graph.graph.shapes[value]
        params = self._tensors.params(self._graph.quantized.activations[value])
        beyond = fold.beyond(width)
        if fold.read > channels or beyond:
            pads = self._file.integers((0, 0, 0, 0, 0, fold.read - channels, 0, beyond))
            integers = self._file.node("Pad", [integers, pads, params[1]], f"{name}.wide")
        if fold.inputs > 1:
            shape = (fold.read * fold.inputs, height, (width + beyond) // fold.inputs)
            if fold.planes:
                integers = self._in_planes(integers, name, fold, shape)
            else:
                integers = self._refolded(integers, name, fold.read, shape)
        return self._file.node("DequantizeLinear", [integers, *params], f"{name}.real")

    def _in_planes(self, integers: str, name: str, fold: Fold, shape: tuple[int, int, int]) -> str:
        """Integers of an image with its channels first as blocks (channels, rows, blocks) that hold them in order."""
        channels, rows, blocks = shape
        if fold.read > 1:
            split = self._file.reshape(integers, f"{name}.split", (0, fold.read, rows * blocks, fold.inputs))
            integers = self._file.transpose(split, f"{name}.moved", (0, 2, 1, 3))
        joined = self._file.reshape(integers, f"{name}.joined", (0, rows, blocks, channels))
        return self._file.transpose(joined, name, CHANNELS_FIRST)

    def _refolded(self, integers: str, name: str, channels: int, shape: Sequence[int]) -> str:
        """Integers of an image of so many channels as an image of another shape (channels, rows, places)."""
        if integers in self.sources:
            last, channels = self.sources[integers]
        elif channels > 1:
            last = self._file.transpose(integers, f"{name}.last", CHANNELS_LAST)
        else:
            last = integers
        self.sources[name] = last, channels
        if shape[0] != channels:
            last = self._file.reshape(last, f"{name}.split", (0, *shape[1:], shape[0]))
        return self._file.transpose(last, name, CHANNELS_FIRST)
