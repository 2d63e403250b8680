"""int8 in TFLite, by the quantization specification: activations per tensor, weights per output channel, bias int32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecnn.export.tflite.integer_writer import QuantizedWriter
from edgecnn.export.tflite.lower import LOWERINGS, Lower, lower_bounds
from edgecnn.export.tflite.write import Arrange, Axes, StoredTensor, symmetric
from edgecnn.graph import ops
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Op, ValueName
from edgecnn.program.qparams import INT8_MAX, INT8_MIN, Float, QParams, QWeights
from edgecnn.program.quantized import QuantizedGraph, integers_of

# The first version of each operator with int8 (tensorflow/lite/tools/versioning/op_version.cc).
VERSIONS: Mapping[str, int] = MappingProxyType(
    {
        "ABS": 2,
        "ADD": 2,
        "AVERAGE_POOL_2D": 2,
        "BATCH_MATMUL": 2,
        "CONCATENATION": 2,
        "CONV_2D": 3,
        "DEPTHWISE_CONV_2D": 3,
        "DEQUANTIZE": 2,
        "EXP": 2,
        "FULLY_CONNECTED": 4,
        "GATHER": 2,
        "GELU": 2,
        "LEAKY_RELU": 2,
        "LOG": 2,
        "LOGISTIC": 2,
        "LOG_SOFTMAX": 2,
        "MAXIMUM": 2,
        "MAX_POOL_2D": 2,
        "MEAN": 2,
        "MINIMUM": 2,
        "MIRROR_PAD": 2,
        "MUL": 2,
        "PAD": 2,
        "PADV2": 2,
        "REDUCE_MAX": 2,
        "REDUCE_MIN": 2,
        "RELU": 2,
        "RELU6": 2,
        "RESIZE_BILINEAR": 2,
        "RESIZE_NEAREST_NEIGHBOR": 2,
        "SOFTMAX": 2,
        "SPACE_TO_DEPTH": 2,
        "STRIDED_SLICE": 2,
        "SUB": 2,
        "TANH": 2,
        "TRANSPOSE": 2,
    }
)


UINT8_OFFSET = 128
"""uint8 = int8 + 128."""


LOWERINGS_INT8: Mapping[type[Op], Lower] = MappingProxyType(
    {**LOWERINGS, ops.Clamp: lower_bounds, ops.Relu: lower_bounds}
)
"""Clamps are a change of parameters, then bounds on integers, which all runtimes compute with equal results. TFLite
Micro's RELU6 takes its input's integers for the output's, and it has neither RELU_N1_TO_1 nor RELU_0_TO_1; XNNPACK's
RELU between two scales is off by 1 at times.
"""


class TfliteInt8Writer(QuantizedWriter):
    """Writes int8 tensors; inputs and outputs as ``io`` says."""

    def __init__(self, graph: Graph, quantized: QuantizedGraph, io: str = "float32") -> None:
        self._q, self._io = quantized, io
        super().__init__(graph)

    def version_of(self, operator: str) -> int:
        """The first version of an operator that has int8."""
        return VERSIONS.get(operator, 1)

    def weights(self, name: ValueName, arrange: Arrange, channel_axis: int, *, key: tuple[Any, ...]) -> int:
        """Integer weights, one scale per output channel."""
        weights = self._q.weights[name]
        quantization = _of_weights(weights, weights.scales, channel_axis)
        return self.constant(name, arrange(weights.integers), key=(name, *key), quantization=quantization)

    def bias(self, node: Node, bias: ValueName | None, channels: int) -> int:  # noqa: ARG002  (zeros are a bias here)
        """The bias as int32 at the accumulator's scales."""
        op: Any = node.op
        weights = self._q.weights[op.weight]
        quantization = _of_weights(weights, self._q.activations[op.x].scale * weights.scales, 0)
        integers = self._q.biases[node.name]
        return self.constant(f"{node.name}.bias", integers, key=("bias", node.name), quantization=quantization)

    def operand(self, name: ValueName, arrange: Arrange, *, key: tuple[Any, ...]) -> int:
        """A constant operand's integers."""
        params = self._q.activations[name]
        return self.constant(name, arrange(integers_of(self._q, name)), key=key, quantization=_of(params))

    def number(self, node: Node, value: float, shape: tuple[int, ...]) -> int:
        """A number, at the parameters of the node's value."""
        params = self._q.activations[node.name]
        integers = np.full(shape, params.quantize(np.array(value)), np.int8)
        key = ("number", float(params.scale), params.zero_point, integers.tobytes(), shape)
        return self.constant(f"{node.name}.{value:g}", integers, key=key, quantization=_of(params))

    def read_as(self, value: ValueName, axes: Axes, node: Node) -> int:
        """A value under the parameters of the node's value, by a multiplication with 1 where its own differ.

        QUANTIZE has the same meaning, but XNNPACK's multiplier for it has 8 bits: one value in twenty is off by 1.
        """
        index = self.read(value, axes, node)
        if self._q.activations[value] == self._q.activations[node.name]:
            return index
        name = f"{node.name}.from.{value}"
        tensor = self._value_tensor(name, self.graph.shapes[value], axes, public=False, value=node.name)
        one = self.constant("one", np.ones((), np.int8), key=("one",), quantization=_of(QParams(np.float32(1), 0)))
        self._append("MUL", [index, one], tensor.index, ("MulOptions", {}), 1)
        return tensor.index

    def bound_matters(self, node: Node, operator: str, bound: float) -> bool:
        """Whether a bound lies inside the range of the parameters; saturation enforces any other."""
        end = INT8_MIN if operator == "MAXIMUM" else INT8_MAX
        return math.isfinite(bound) and self._q.activations[node.name].quantize(np.array(bound)) != end

    def to_outside(self) -> tuple[str, str] | None:
        """The operator that makes integers an output: QUANTIZE for bytes, none for int8, else DEQUANTIZE."""
        if self._io == "int8":
            return None
        return ("QUANTIZE", "QuantizeOptions") if self._io == "uint8" else super().to_outside()

    def make_outside(self, tensor: StoredTensor) -> None:
        """Give an input or output its public type: float32, or uint8 that is int8 plus 128."""
        if self._io != "uint8":
            super().make_outside(tensor)
            return
        record = self._model_tensors[tensor.index]
        inside = record.quantization
        record.type = schema.TensorType.UINT8
        record.quantization = _quantization(inside.scale, inside.zeroPoint + UINT8_OFFSET, 0)

    def _type_value(self, index: int, value: ValueName) -> None:
        self._model_tensors[index].type = schema.TensorType.INT8
        self._model_tensors[index].quantization = _of(self._q.activations[value])


def _of(params: QParams) -> Any:
    return _quantization(np.array([params.scale]), np.array([params.zero_point], np.int64), 0)


def _of_weights(weights: QWeights, scales: Float, axis: int) -> Any:
    """The table of a layer's weights or bias: a scale per channel, or one for a linear layer whose channels share it.

    Runtimes compute the same integers either way, and a channel's scale and zero point take 16 to 24 bytes of a linear
    layer. Convolutions keep a scale per channel, as the specification demands.
    """
    if weights.integers.ndim == 2 and (weights.scales == weights.scales[0]).all():
        scales, axis = scales[:1], 0
    return symmetric(scales, axis)


def _quantization(scales: Any, zero_points: Any, axis: int) -> Any:
    return schema.QuantizationParametersT(
        scale=np.asarray(scales, np.float32), zeroPoint=zero_points, quantizedDimension=axis
    )
