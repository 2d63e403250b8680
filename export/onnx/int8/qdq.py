"""int8 in ONNX: QuantizeLinear and DequantizeLinear around every value, in the form that ONNX Runtime fuses whole.

Activations are uint8, at the zero point plus 128: the same integers as TFLite's int8, plus 128. With int8 activations
ONNX Runtime leaves most convolutions in float on x86.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto

from edgecnn.export.onnx.lower import over_image
from edgecnn.export.onnx.write import OnnxWriter
from edgecnn.export.written import Place
from edgecnn.graph.graph import Graph, Node, Output
from edgecnn.graph.ops import Activation, Clamp, Linear, Mean, Relu, ValueName
from edgecnn.program.qparams import INT8_MAX, INT8_MIN, Int8, QParams, bounds, division_equals_reciprocal
from edgecnn.program.quantized import QuantizedGraph, integers_of

OFFSET = 128
"""uint8 = int8 + 128."""

IO_TYPES: Mapping[str, int] = MappingProxyType(
    {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
)
"""Types that inputs and outputs can have."""


class QdqWriter(OnnxWriter):
    """The float writer with integers inside: lowerings are the same, what they read and give is dequantized."""

    in_integers = True

    def __init__(
        self,
        graph: Graph,
        opset: int,
        quantized: QuantizedGraph,
        io: str = "float32",
        wide: Mapping[ValueName, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(graph, opset)
        self._q, self._io, self._wide = quantized, io, wide
        self.io_type = IO_TYPES[io]
        if io != "float32":  # the outputs' names are for the integers
            taken = {o.name for o in graph.outputs}
            self._public = {value: f"{value}:inner" for value in graph.shapes if value in taken}
        self._dequantized: dict[ValueName, str] = {}
        self._integers: dict[ValueName, str] = {}
        self._scaled_inputs: dict[ValueName, str] = {}
        for value in graph.inputs:
            self._dequantized[value.name] = self._take(value.name)

    def tensor(self, value: ValueName) -> str:
        """The dequantized tensor of a value."""
        if value not in self._dequantized:
            self._dequantized[value] = self._constant(value)
        return self._dequantized[value]

    def bias(self, node: Node, bias: ValueName | None) -> list[str]:  # noqa: ARG002  (zeros are a bias here)
        """The node's bias, int32 at the scale of its accumulator."""
        op: Any = node.op
        scales = self._q.activations[op.x].scale * self._q.weights[op.weight].scales
        return [self._dequantize(f"{node.name}.bias", self._q.biases[node.name], scales, 0, axis=0)]

    def flatten(self, node: Node, value: ValueName) -> str:
        """The integers are flattened, so that the pair stays next to the operator that fuses it."""
        axis = 1 if node.op.flatten else len(self.graph.shapes[value]) - 1  # type: ignore[union-attr]
        integers = self.node("Flatten", [self._integers[value]], f"{node.name}.flatten.q", axis=axis)
        return self.node(
            "DequantizeLinear", [integers, *self._params(self._q.activations[value])], f"{node.name}.flatten"
        )

    def emit(self, operator: str, node: Node, inputs: Sequence[str], *, step: str = "", **attributes: Any) -> str:
        """Add an ONNX node, and behind the last of a graph node the pair that makes its value."""
        if step:
            return super().emit(operator, node, inputs, step=step, **attributes)
        real = self.node(operator, inputs, f"{node.name}.real", name=node.name, **attributes)
        self._dequantized[node.name] = self._wrap(node.name, real, self.result(node), node)
        return real

    def emit_activated(self, operator: str, node: Node, inputs: Sequence[str], **attributes: Any) -> None:
        """Add an ONNX node; clamping to the quantized range is the activation, or a Clip of the integers is."""
        self.emit(operator, node, inputs, **attributes)

    def places(self, value: ValueName) -> list[Place]:
        """The tensors that hold a value's integers."""
        if value not in self._integers:
            return []
        tensor = self._integers[value]
        axes, wide = self._identity(value), self._wide.get(value, 0)
        return [Place(tensor=tensor, axes=axes, form="integers", offset=OFFSET, channels=wide)]

    def _wrap(self, name: ValueName, real: str, result: str, node: Node | None = None) -> str:
        params = self._q.activations[name]
        scale, zero = self._params(params)
        integers = self.node("QuantizeLinear", [real, scale, zero], f"{name}.q")
        if node is not None:
            integers = self._arranged(node, integers)
        activation = Activation.NONE if node is None else getattr(node.op, "activation", Activation.NONE)
        low, high = bounds(params, activation)
        if (low, high) != (INT8_MIN, INT8_MAX) and not isinstance(node and node.op, Relu | Clamp):
            ends = [self.initializer(f"uint8:{v + OFFSET}", np.array(v + OFFSET, np.uint8)) for v in (low, high)]
            integers = self.node("Clip", [integers, *ends], f"{name}.clip")
        self._integers[name] = integers
        return self.node("DequantizeLinear", [integers, scale, zero], result, name=f"{result}.dequantize")

    def _arranged(self, node: Node, integers: str) -> str:
        """An operator's integers as they are stored: with all axes of its value."""
        if not self._flat(node):
            return integers
        to = (-1, *node.shape[1:]) if self.batch_free else node.shape
        return self.node("Reshape", [integers, self.integers(to)], f"{node.name}.shaped")

    def _take(self, name: ValueName) -> str:
        """The dequantized tensor of an input, which arrives as float32, as the integers, or as those plus 128."""
        scale, zero = self._params(self._q.activations[name])
        if self._io == "float32":
            steps = [name, scale]
            if not division_equals_reciprocal(self._q.activations[name].scale):
                steps = [self._steps(name), self.initializer("scale:1.0", np.array(1, np.float32))]
            self._integers[name] = self.node("QuantizeLinear", [*steps, zero], f"{name}.q")
            return self.node("DequantizeLinear", [self._integers[name], scale, zero], f"{name}.real")
        self._integers[name] = name
        if self._io == "int8":
            real = self.node("DequantizeLinear", [name, scale, self._int8_zero(name)], f"{name}.int8")
            self._integers[name] = self.node("QuantizeLinear", [real, scale, zero], f"{name}.q")
        return self.node("DequantizeLinear", [self._integers[name], scale, zero], f"{name}.real")

    def _steps(self, name: ValueName) -> str:
        """An input times its scale's reciprocal, as XNNPACK has it: a division can round otherwise at some ties."""
        if name not in self._scaled_inputs:
            inverse = np.float32(1) / self._q.activations[name].scale
            factor = self.initializer(f"scale:{float(inverse)!r}", np.array(inverse, np.float32))
            self._scaled_inputs[name] = self.node("Mul", [name, factor], f"{name}.steps")
        return self._scaled_inputs[name]

    def _int8_zero(self, name: ValueName) -> str:
        zero = self._q.activations[name].zero_point
        return self.initializer(f"int8:{zero}", np.array(zero, np.int8))

    def _place_output(self, output: Output) -> None:
        """A value as an output: dequantized, or its integers as int8, or those plus 128, as they are inside."""
        if self._io == "float32":
            super()._place_output(output)
            return
        integers = self._integers[output.value]
        if self._io == "uint8":
            self.node("Identity", [integers], output.name)
            return
        scale, zero = self._params(self._q.activations[output.value])
        real = self.node("DequantizeLinear", [integers, scale, zero], f"{output.name}.real")
        self.node("QuantizeLinear", [real, scale, self._int8_zero(output.value)], output.name)

    def _flat(self, node: Node) -> bool:
        """Whether an operator's integers still lack axes of its value: rows of a Gemm, or have some: pooled images."""
        match node.op:
            case Linear():
                return len(node.shape) != 2
            case Mean(keepdim=False) as op:
                return over_image(self.graph, op)
        return False

    def _params(self, params: QParams) -> tuple[str, str]:
        scale = self.initializer(f"scale:{float(params.scale)!r}", np.array(params.scale, np.float32))
        zero = self.initializer(f"uint8:{params.zero_point + OFFSET}", np.array(params.zero_point + OFFSET, np.uint8))
        return scale, zero

    def _constant(self, value: ValueName) -> str:
        if value in self._q.weights:
            return self._dequantize(value, self._integer_weights(value), self._q.weights[value].scales, 0, axis=0)
        scale, zero = self._params(self._q.activations[value])
        integers = (integers_of(self._q, value).astype(np.int16) + OFFSET).astype(np.uint8)
        return self.node("DequantizeLinear", [self.initializer(f"{value}.q", integers), scale, zero], value)

    def _integer_weights(self, value: ValueName) -> Int8:
        return self._q.weights[value].integers

    def _dequantize(self, name: str, integers: Any, scales: Any, zero: int, *, axis: int) -> str:
        inputs = [
            self.initializer(f"{name}.q", integers),
            self.initializer(f"{name}.scale", np.asarray(scales, np.float32)),
        ]
        if integers.dtype != np.int32:  # which have none
            inputs.append(self.initializer(f"{name}.zero", np.full(len(scales), zero, integers.dtype)))
        return self.node("DequantizeLinear", inputs, name, name="", axis=axis)
