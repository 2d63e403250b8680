"""int16x8 in TFLite: int16 activations with zero point 0, int8 weights per output channel, bias int64.

TFLite's own kernels run it, most of them reference code: it serves accuracy where int8 loses too much, not speed.
XNNPACK does not run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecnn.errors import LoweringError
from edgecnn.export.lowering import lower_all
from edgecnn.export.tflite.integer_writer import QuantizedWriter
from edgecnn.export.tflite.legalize import legalize
from edgecnn.export.tflite.lower import LOWERINGS, Lower, lower_bounds, lower_clamp
from edgecnn.export.tflite.write import Arrange, TfliteWriter, symmetric
from edgecnn.export.written import Written
from edgecnn.graph import ops
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Op, ValueName
from edgecnn.program.quantized16 import RELUS, QuantizedGraph16, Scale16, follow_int16

VERSIONS: Mapping[str, int] = MappingProxyType(
    {
        "ADD": 3,
        "AVERAGE_POOL_2D": 3,
        "CONCATENATION": 3,
        "CONV_2D": 4,
        "DEPTHWISE_CONV_2D": 5,
        "DEQUANTIZE": 3,
        "FULLY_CONNECTED": 7,
        "LOGISTIC": 3,
        "MAXIMUM": 4,
        "MAX_POOL_2D": 3,
        "MEAN": 3,
        "MINIMUM": 4,
        "MUL": 4,
        "PAD": 3,
        "PADV2": 3,
        "QUANTIZE": 2,
        "RELU": 3,
        "RELU6": 3,
        "RESHAPE": 1,
        "SOFTMAX": 3,
        "STRIDED_SLICE": 4,
        "SUB": 5,
        "TANH": 3,
        "TRANSPOSE": 5,
    }
)
"""The first version of each operator with int16 (tensorflow/lite/tools/versioning/op_version.cc); an operator
that is not listed has no int16 kernel."""


def export_tflite_int16x8(quantized: QuantizedGraph16, *, version: str) -> Written:
    """Write a quantized graph as int16x8 TFLite with float32 inputs and outputs.

    See :func:`~edgecnn.export.tflite.export.export_tflite`.

    Raises:
        LoweringError: if an operator has no int16 kernel, or TFLite cannot express the graph.
    """
    graph = legalize(quantized.graph, quantized.same_storage)
    writer = Int16x8Writer(graph, follow_int16(quantized, graph))
    lower_all(graph, writer, LOWERINGS_INT16, "TFLite")
    return writer.finish(version=version)


def lower_clamp_int16(w: TfliteWriter, node: Node, op: ops.Clamp) -> None:
    """RELU or RELU6, else MAXIMUM and MINIMUM: RELU_N1_TO_1 and RELU_0_TO_1 have no int16 kernels."""
    if (op.low, op.high) in RELUS:
        lower_clamp(w, node, op)
        return
    lower_bounds(w, node, op)


LOWERINGS_INT16: Mapping[type[Op], Lower] = MappingProxyType({**LOWERINGS, ops.Clamp: lower_clamp_int16})


class Int16x8Writer(QuantizedWriter):
    """Writes int16 tensors; inputs and outputs are float32."""

    def __init__(self, graph: Graph, quantized: QuantizedGraph16) -> None:
        self._q = quantized
        super().__init__(graph)

    def version_of(self, operator: str) -> int:
        """The first version of an operator that has int16.

        Raises:
            LoweringError: if it has no int16 kernel.
        """
        if operator not in VERSIONS:
            raise LoweringError(f"{operator} has no int16 kernel in TFLite", hint="--precisions int8 or fp16")
        return VERSIONS[operator]

    def weights(self, name: ValueName, arrange: Arrange, channel_axis: int, *, key: tuple[Any, ...]) -> int:
        """Integer weights, one scale per output channel."""
        weights = self._q.weights[name]
        return self.constant(
            name, arrange(weights.integers), key=(name, *key), quantization=symmetric(weights.scales, channel_axis)
        )

    def bias(self, node: Node, bias: ValueName | None, channels: int) -> int:  # noqa: ARG002  (zeros are a bias here)
        """The bias as int64 at the accumulator's scales."""
        op: Any = node.op
        scales = self._q.activations[op.x].scale * self._q.weights[op.weight].scales
        integers = self._q.biases[node.name]
        return self.constant(f"{node.name}.bias", integers, key=("bias", node.name), quantization=symmetric(scales, 0))

    def operand(self, name: ValueName, arrange: Arrange, *, key: tuple[Any, ...]) -> int:
        """A constant operand's integers."""
        scale = self._q.activations[name]
        integers = arrange(scale.quantize(self.graph.constants[name]))
        return self.constant(name, integers, key=key, quantization=_per_tensor(scale))

    def number(self, node: Node, value: float, shape: tuple[int, ...]) -> int:
        """A number, at the scale of the node's value."""
        scale = self._q.activations[node.name]
        integers = np.full(shape, scale.quantize(np.array(value)), np.int16)
        key = ("number", float(scale.scale), integers.tobytes(), shape)
        return self.constant(f"{node.name}.{value:g}", integers, key=key, quantization=_per_tensor(scale))

    def adapt(self, operator: str, options: Any) -> Any:
        """Allow scales that are no powers of two, in the operators that have an option for it.

        Raises:
            LoweringError: if the operator has no int16 kernel.
        """
        self.version_of(operator)
        return (options[0], {**options[1], "potScaleInt16": False}) if operator in {"ADD", "SUB"} else options

    def _type_value(self, index: int, value: ValueName) -> None:
        self._model_tensors[index].type = schema.TensorType.INT16
        self._model_tensors[index].quantization = _per_tensor(self._q.activations[value])


def _per_tensor(scale: Scale16) -> Any:
    return symmetric(np.array([scale.scale]), 0)
