"""The sums of exact float layers in a file: their tensors, and how they become whole numbers of the result's scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.export.onnx.file import OnnxFile
from edgecnn.export.onnx.int8.nodes import FileGraph
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import ValueName
from edgecnn.program.qparams import INT8_MAX, INT8_MIN, bounds

ROUNDER = np.float32(1.5 * 2**23)
"""Float32 numbers near it are the whole numbers: adding it to small numbers rounds them, half to even."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Accumulators: their tensor, the layer that they are of, and the channels that the tensor has, zeros included."""

    tensor: str
    layer: Node
    channels: int


class Accumulators:
    """The accumulators that a file holds, by value, and the nodes that scale and round them.

    Attributes:
        of: By value, its accumulators.
        tensors: All tensors of whole numbers in float, for the file's metadata.
    """

    def __init__(self, file: OnnxFile, graph: FileGraph) -> None:
        self._file, self._graph = file, graph
        self.of: dict[ValueName, Sums] = {}
        self.tensors: set[str] = set()

    def once(self, operator: str, inputs: Sequence[str], result: str, **attributes: Any) -> str:
        """Add an ONNX node of whole numbers in float at its first use."""
        if result not in self.tensors:
            self.tensors.add(result)
            self._file.node(operator, inputs, result, **attributes)
        return result

    def scaled(self, value: ValueName, *, saturates: bool) -> str:
        """Accumulators times their multiplier; clamped, unless ``saturates``: what comes next clamps to int8."""
        sums, q = self.of[value], self._graph.quantized
        op: Any = sums.layer.op
        params = q.activations[value]
        factors = (q.activations[op.x].scale * q.weights[op.weight].scales) / params.scale
        channels = self._graph.channels.get(value, sums.layer.shape[1])
        if channels == sums.channels == len(factors):
            matrix, groups = factors[:, None], channels
        else:  # leaves channels out, or adds channels of zeros; a product plus zeros is that product
            matrix, groups = np.zeros((channels, sums.channels), np.float32), None
            np.fill_diagonal(matrix[: len(factors)], factors)
        kernel = self._file.initializer(f"{value}.factors", matrix[:, :, None, None])
        scaled = self.once("Conv", [sums.tensor, kernel], f"{value}.scaled", kernel_shape=[1, 1], group=groups)
        low, high = bounds(params, op.activation)
        if saturates and (low, high) == (INT8_MIN, INT8_MAX):
            return scaled
        return self.clipped(scaled, f"{value}.clamped", low - params.zero_point, high - params.zero_point)

    def clipped(self, x: str, name: str, low: int, high: int) -> str:
        """A tensor clamped to a range."""
        return self.once("Clip", [x, self._file.scalar(float(low)), self._file.scalar(float(high))], name)

    def rounded(self, value: ValueName) -> str:
        """``integer - zero point`` of a value, rounded half to even by Convs, each one sum of two numbers per element.

        ONNX Runtime keeps images in its blocked layout from Conv to Conv.
        """
        channels, x = self.of[value].layer.shape[1], self.scaled(value, saturates=False)
        ones = self._file.initializer(f"ones:{channels}", np.ones((channels, 1, 1, 1), np.float32))
        for step, term in ((".above", ROUNDER), (".rounded", -ROUNDER)):
            terms = self._file.initializer(f"terms:{channels}{step}", np.full(channels, term, np.float32))
            x = self.once("Conv", [x, ones, terms], f"{value}{step}", kernel_shape=[1, 1], group=channels)
        return x
