"""The tensors that hold the integers of values in an int8 ONNX file, and the pairs around its operators.

Activations are uint8, at the zero point plus 128: the integers of TFLite's int8 file, plus 128. With int8 activations
ONNX Runtime leaves most convolutions in float on x86.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto

from edgecnn.export.onnx.file import OnnxFile
from edgecnn.export.onnx.int8.accumulators import Accumulators
from edgecnn.export.onnx.int8.nodes import OFFSET, FileGraph, stored_weights
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Activation, Clamp, Relu, ValueName
from edgecnn.program.qparams import INT8_MAX, INT8_MIN, QParams, bounds, division_equals_reciprocal
from edgecnn.program.quantized import integers_of
from edgecnn.types import Array

IO_TYPES: Mapping[str, int] = MappingProxyType(
    {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
)
"""Types that inputs and outputs can have."""
Arrange = Callable[[Node, str], str]


class QuantizedTensors:
    """Values as integers: what nodes read is dequantized, what they give is quantized.

    Args:
        file: The file under construction.
        graph: What is written.
        io: A key of ``IO_TYPES``.
        accumulators: The values that there may be only accumulators of yet.
        arrange: Adds what moves the integers that a node's operator gives to where the value has them.
    """

    in_integers = True

    def __init__(self, file: OnnxFile, graph: FileGraph, io: str, accumulators: Accumulators, arrange: Arrange) -> None:
        self._file, self._graph, self._q, self._io = file, graph, graph.quantized, io
        self._accumulators, self._arrange = accumulators, arrange
        self._integers: dict[ValueName, str] = {}
        self._dequantized: dict[ValueName, str] = {}
        self._decoded: dict[ValueName, str] = {}
        self._copies: Counter[ValueName] = Counter()
        self._scaled_inputs: dict[ValueName, str] = {}
        for value in graph.graph.inputs:
            self._take_input(value.name)

    def integers(self, value: ValueName) -> str:
        """The tensor of a value's integers."""
        self.read(value)
        return self._integers[value]

    def held_integers(self, value: ValueName) -> str | None:
        """The tensor of a value's integers, if the file has one."""
        return self._integers.get(value)

    def read(self, value: ValueName) -> str:
        """The dequantized tensor of a value. Accumulators and float values become integers first."""
        if value not in self._dequantized:
            if value in self._accumulators.of:
                self._requantize(value)
            elif value in self._q.skipped:
                self._quantize(value, self._file.name(value), f"{value}.dequantized")
            elif value in self._q.weights:
                self._dequantized[value] = self._layer_weights(value, value)
            else:
                self._dequantized[value] = self._constant(value)
        return self._dequantized[value]

    def weights(self, value: ValueName, *, transposed: bool) -> str:
        """The dequantized tensor of a layer's weights."""
        assert not transposed, "a Gemm reads weights as they are"
        return self._layer_weights(value, self.layer_copy(value))

    def layer_copy(self, weight: ValueName) -> str:
        """A name for one more layer's copy of a weight: the weight's own, then numbered ones.

        Layers that share a weight have a copy each: on x86 without VNNI ONNX Runtime converts weights layer by layer
        (`session.x64quantprecision`), and refuses a file in which two layers read one initializer.
        """
        self._copies[weight] += 1
        return weight if self._copies[weight] == 1 else f"{weight}:{self._copies[weight]}"

    def bias(self, node: Node, bias: ValueName | None) -> list[str]:  # noqa: ARG002  (zeros are a bias here)
        """The node's bias, int32 at the scale of its accumulator."""
        op: Any = node.op
        scales = self._q.activations[op.x].scale * self._q.weights[op.weight].scales
        return [self._dequantize_channels(f"{node.name}.bias", self._q.biases[node.name], scales)]

    def flatten(self, node: Node, value: ValueName) -> str:
        """A Flatten of the integers, so that the pair stays next to the operator that fuses it."""
        axis = 1 if node.op.flatten else len(self._graph.graph.shapes[value]) - 1  # type: ignore[union-attr]
        return self.flattened(node, value, self.integers(value), axis)

    def flattened(self, node: Node, value: ValueName, integers: str, axis: int) -> str:
        """Rows of a value's integers in some order, dequantized for a node."""
        rows = self._file.node("Flatten", [integers], f"{node.name}.flatten.q", axis=axis)
        params = self.params(self._q.activations[value])
        return self._file.node("DequantizeLinear", [rows, *params], f"{node.name}.flatten")

    def give(self, node: Node, operator: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        """Add an ONNX node, and the pair after it that makes the graph node's value."""
        real = self._file.node(operator, inputs, f"{node.name}.real", name=node.name, **attributes)
        self._quantize(node.name, real, self._file.name(node.name), node)
        return real

    def give_integers(self, node: Node, integers: str) -> None:
        """Let a tensor of integers be a node's value."""
        self._hold(node.name, integers, self._file.name(node.name))

    def real(self, value: ValueName) -> str:
        """A value for a float layer: as it is, or ``(integer - zero point) * scale``.

        That is no DequantizeLinear: between one and a QuantizeLinear ONNX Runtime would quantize the layer's weights.
        """
        if value in self._graph.graph.constants:
            return self._file.initializer(f"{value}.float", self._graph.graph.constants[value])
        if value in self._q.skipped:
            return self._file.name(value)
        if value not in self._decoded:
            params = self._q.activations[value]
            whole = self._file.node("Cast", [self.integers(value)], f"{value}.whole", to=TensorProto.FLOAT)
            zero = self._file.scalar(float(params.zero_point + OFFSET))
            centered = self._file.node("Sub", [whole, zero], f"{value}.centered")
            scale = self._file.scalar(float(np.float32(params.scale)))
            self._decoded[value] = self._file.node("Mul", [centered, scale], f"{value}.decoded")
        return self._decoded[value]

    def input_steps(self, name: ValueName) -> str:
        """An input times its scale's reciprocal, as XNNPACK has it: a division can round otherwise at some ties."""
        if name not in self._scaled_inputs:
            inverse = np.float32(1) / self._q.activations[name].scale
            factor = self._scale(inverse)
            self._scaled_inputs[name] = self._file.node("Mul", [name, factor], f"{name}.steps")
        return self._scaled_inputs[name]

    def finish_outputs(self) -> set[str]:
        """Make what the outputs are made of; returns those tensors."""
        for output in self._graph.graph.outputs:
            if output.value in self._accumulators.of:
                self.read(output.value)
        return {self._finished(o.value) for o in self._graph.graph.outputs}

    def place_outputs(self) -> None:
        """Add what gives each output its name and type: real numbers, integers as int8, or those plus 128."""
        for output in self._graph.graph.outputs:
            finished = self._finished(output.value)
            if self._io == "float32":
                if self._file.names.get(output.value) != output.name:  # an input, a constant, or given out twice
                    self._file.node("Identity", [finished], output.name)
            elif self._io == "uint8":
                self._file.node("Identity", [finished], output.name)
            else:
                params = self._q.activations[output.value]
                scale, zero = self.params(params)
                real = self._file.node("DequantizeLinear", [finished, scale, zero], f"{output.name}.real")
                self._file.node("QuantizeLinear", [real, scale, self._int8_zero(params)], output.name)

    def params(self, params: QParams) -> tuple[str, str]:
        """Initializers of a scale and of a zero point plus 128."""
        return self._scale(params.scale), self._uint8(params.zero_point)

    def _layer_weights(self, value: ValueName, name: str) -> str:
        own = self._q.weights[value]
        stored = stored_weights(self._graph, value, own.integers)
        return self._dequantize_channels(name, stored.integers, own.scales, stored.zeros(len(own.scales)))

    def _dequantize_channels(self, name: str, integers: Array, scales: Any, zeros: Array | None = None) -> str:
        """A tensor of integer weights or of int32 biases, which have no zero points, dequantized by a scale per row."""
        inputs = [
            self._file.initializer(f"{name}.q", integers),
            self._file.initializer(f"{name}.scale", np.asarray(scales, np.float32)),
        ]
        if zeros is not None:
            inputs.append(self._file.initializer(f"{name}.zero", zeros))
        return self._file.node("DequantizeLinear", inputs, name, name="", axis=0)

    def _finished(self, value: ValueName) -> str:
        if self._io != "float32":
            return self._integers[value]
        return self._file.name(value) if value in self._q.skipped else self.read(value)

    def _quantize(self, name: ValueName, real: str, result: str, node: Node | None = None) -> None:
        params = self._q.activations[name]
        integers = self._file.node("QuantizeLinear", [real, *self.params(params)], f"{name}.q")
        if node is not None:
            integers = self._arrange(node, integers)
        activation = Activation.NONE if node is None else getattr(node.op, "activation", Activation.NONE)
        low, high = bounds(params, activation)
        if (low, high) != (INT8_MIN, INT8_MAX) and not isinstance(node and node.op, Relu | Clamp):
            integers = self._file.node("Clip", [integers, self._uint8(low), self._uint8(high)], f"{name}.clip")
        self._hold(name, integers, result)

    def _requantize(self, value: ValueName) -> None:
        """Make the integers of a value that there are only accumulators of."""
        _, zero = self.params(self._q.activations[value])
        one = self._scale(np.float32(1))
        scaled = self._accumulators.scaled(value, saturates=True)
        integers = self._file.node("QuantizeLinear", [scaled, one, zero], f"{value}.q")
        self._hold(value, integers, self._file.name(value))

    def _hold(self, name: ValueName, integers: str, result: str) -> None:
        """Let a tensor be a value's integers, and another what they are dequantized to."""
        self._integers[name] = integers
        inputs = [integers, *self.params(self._q.activations[name])]
        self._dequantized[name] = self._file.node("DequantizeLinear", inputs, result, name=f"{result}.dequantize")

    def _take_input(self, name: ValueName) -> None:
        """Hold an input, which arrives as float32, as the integers, or as those plus 128."""
        params = self._q.activations[name]
        scale, zero = self.params(params)
        integers = name
        if self._io == "float32":
            steps = (
                [name, scale]
                if division_equals_reciprocal(params.scale)
                else [self.input_steps(name), self._scale(np.float32(1))]
            )
            integers = self._file.node("QuantizeLinear", [*steps, zero], f"{name}.q")
        elif self._io == "int8":
            real = self._file.node("DequantizeLinear", [name, scale, self._int8_zero(params)], f"{name}.int8")
            integers = self._file.node("QuantizeLinear", [real, scale, zero], f"{name}.q")
        self._integers[name] = integers
        self._dequantized[name] = self._file.node("DequantizeLinear", [integers, scale, zero], f"{name}.real")

    def _constant(self, value: ValueName) -> str:
        """A constant operand, dequantized."""
        scale, zero = self.params(self._q.activations[value])
        integers = (integers_of(self._q, value).astype(np.int16) + OFFSET).astype(np.uint8)
        stored = self._file.initializer(f"{value}.q", integers)
        return self._file.node("DequantizeLinear", [stored, scale, zero], value)

    def _scale(self, scale: np.float32) -> str:
        return self._file.initializer(f"scale:{float(scale)!r}", np.array(scale, np.float32))

    def _uint8(self, integer: int) -> str:
        return self._file.initializer(f"uint8:{integer + OFFSET}", np.array(integer + OFFSET, np.uint8))

    def _int8_zero(self, params: QParams) -> str:
        return self._file.initializer(f"int8:{params.zero_point}", np.array(params.zero_point, np.int8))
