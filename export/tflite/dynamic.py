"""int8-dynamic in TFLite: int8 weights per output channel, float32 activations, arithmetic in integers where it pays.

Hybrid kernels quantize a layer's input to int8 at run time, one scale and zero point per sample, multiply integers, and
give float32. Convolutions and linear layers are written for them; in LiteRT 2 XNNPACK runs both, and without XNNPACK
TFLite's own kernels do. XNNPACK has no such kernel for depthwise convolutions, and TFLite's takes 7 times as long as
XNNPACK's in float (32 channels, 48x48): depthwise weights are stored as int8, dequantized by a DEQUANTIZE, and used in
float.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecnn.export.lowering import lower_all
from edgecnn.export.tflite.legalize import legalize
from edgecnn.export.tflite.lower import LOWERINGS
from edgecnn.export.tflite.write import Arrange, TfliteWriter, symmetric
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.program.half_weights import weighted_nodes
from edgecnn.program.integer_weights import quantize_weights, quantize_whole

VERSIONS: Mapping[str, int] = MappingProxyType({"CONV_2D": 5, "DEQUANTIZE": 5, "FULLY_CONNECTED": 12})
"""The first versions that take weights per channel (tensorflow/lite/tools/versioning/op_version.cc)."""
DEPTHWISE_CHANNELS = 3
"""The axis of output channels in a DEPTHWISE_CONV_2D's weights; in other weights it is 0."""
PER_TENSOR_LINEAR = 9
"""The version of FULLY_CONNECTED with inputs quantized asymmetrically and one scale for all weights."""


def export_tflite_int8_dynamic(graph: Graph, *, version: str, per_channel_linear: bool = True) -> Written:
    """Write a float32 graph as TFLite with int8 weights and float32 activations.

    See :func:`~edgecnn.export.tflite.export.export_tflite`. No calibration data is needed.

    Args:
        graph: The graph.
        version: The version that the file states for its producer.
        per_channel_linear: Give linear layers a scale per output, as convolutions have. LiteRT runs such
            files; tflite-runtime 2.14 refuses them, and runs files with one scale for all of a layer's weights.

    Raises:
        QuantizationError: if a layer's weights are too small to be quantized.
        LoweringError: if TFLite cannot express the graph.
    """
    graph = legalize(graph)
    writer = DynamicWriter(graph, per_channel_linear=per_channel_linear)
    lower_all(graph, writer, LOWERINGS, "TFLite")
    return writer.finish(version=version)


class DynamicWriter(TfliteWriter):
    """The float writer with int8 weights. Biases and constant operands stay float32."""

    def __init__(self, graph: Graph, *, per_channel_linear: bool) -> None:
        super().__init__(graph)
        self._layers = weighted_nodes(graph)
        self._per_channel_linear = per_channel_linear
        self._dequantized: dict[tuple[Any, ...], int] = {}

    def version_of(self, operator: str) -> int:
        """The first version of an operator that takes these weights."""
        if operator == "FULLY_CONNECTED" and not self._per_channel_linear:
            return PER_TENSOR_LINEAR
        return VERSIONS.get(operator, 1)

    def weights(self, name: ValueName, arrange: Arrange, channel_axis: int, *, key: tuple[Any, ...]) -> int:
        """Integer weights, one scale per output channel or one for a linear layer; for depthwise float32."""
        node, real = self._layers[name], self.graph.constants[name]
        whole = real.ndim == 2 and not self._per_channel_linear
        weights = quantize_whole(node, real) if whole else quantize_weights(node, real)
        quantization = symmetric(weights.scales[:1] if whole else weights.scales, 0 if whole else channel_axis)
        key = ("int8", name, *key)
        integers = self.constant(name, arrange(weights.integers), key=key, quantization=quantization)
        return self._real(name, key, integers) if channel_axis == DEPTHWISE_CHANNELS else integers

    def _real(self, name: ValueName, key: tuple[Any, ...], integers: int) -> int:
        if key not in self._dequantized:
            shape = self._model_tensors[integers].shape
            self._dequantized[key] = self._tensor(f"{name}.real", shape, np.dtype(np.float32), 0)
            self._append("DEQUANTIZE", [integers], self._dequantized[key], ("DequantizeOptions", {}), 1)
        return self._dequantized[key]

    def adapt(self, operator: str, options: Any) -> Any:
        """Let a linear layer's input have a zero point; note once what only some runtimes do with an operator."""
        note = NOTES.get(operator)
        applies = operator != "FULLY_CONNECTED" or self._per_channel_linear
        if note and applies and note not in self._notes:
            self._notes.append(note)
        return (
            (options[0], {**options[1], "asymmetricQuantizeInputs": True}) if operator == "FULLY_CONNECTED" else options
        )


NOTES: Mapping[str, str] = MappingProxyType(
    {
        "DEPTHWISE_CONV_2D": "depthwise convolutions have int8 weights and compute in float: hybrid kernels are slower",
        "FULLY_CONNECTED": "linear layers with int8 weights per channel need LiteRT: tflite-runtime 2.14 refuses them",
    }
)
