"""fp16 in TFLite: weights stored as float16, dequantized to float32 by an operator; arithmetic and io are float32.

TFLite's converter writes this form. Kernels dequantize a constant once, at the first run, and XNNPACK when it
takes over the model. Biases and constant operands are small, and stay float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecnn.export.lowering import lower_all
from edgecnn.export.tflite.legalize import legalize
from edgecnn.export.tflite.lower import LOWERINGS
from edgecnn.export.tflite.write import Arrange, TfliteWriter
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.program.half_weights import half_notes, to_half, weighted_nodes

DEQUANTIZE_VERSION = 3
"""The first version of DEQUANTIZE with float16 (tensorflow/lite/tools/versioning/op_version.cc)."""


def export_tflite_fp16(graph: Graph, *, version: str) -> Written:
    """Write a float32 graph as TFLite with float16 weights; see :func:`~edgecnn.export.tflite.export.export_tflite`.

    What it computes is :func:`~edgecnn.program.half_weights.half_weights` of the graph, in float32.

    Raises:
        QuantizationError: if a weight does not fit float16.
    """
    graph = legalize(graph)
    writer = TfliteFp16Writer(graph)
    lower_all(graph, writer, LOWERINGS, "TFLite")
    return writer.finish(version=version)


class TfliteFp16Writer(TfliteWriter):
    """The float writer with float16 weights, each dequantized by one DEQUANTIZE for all layers that read it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._layers = weighted_nodes(graph)
        self._dequantized: dict[tuple[Any, ...], int] = {}
        self._notes.extend(half_notes(graph))

    def weights(self, name: ValueName, arrange: Arrange, channel_axis: int, *, key: tuple[Any, ...]) -> int:  # noqa: ARG002
        """The float32 tensor that DEQUANTIZE makes of a layer's float16 weights."""
        key = (name, *key)
        if key not in self._dequantized:
            array = arrange(to_half(self._layers[name], self.graph.constants[name]))
            half = self.constant(f"{name}.fp16", array, key=("fp16", *key))
            real = self._tensor(name, array.shape, np.dtype(np.float32), 0)
            self._append("DEQUANTIZE", [half], real, ("DequantizeOptions", {}), DEQUANTIZE_VERSION)
            self._dequantized[key] = real
        return self._dequantized[key]
