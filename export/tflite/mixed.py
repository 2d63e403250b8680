"""int8 in TFLite with layers that a recipe leaves in float, between DEQUANTIZE and QUANTIZE operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from edgecnn.export.tflite.int8 import LOWERINGS_INT8, TfliteInt8Writer
from edgecnn.export.tflite.integer_writer import QuantizedWriter
from edgecnn.export.tflite.lower import LOWERINGS as PLAIN
from edgecnn.export.tflite.write import Arrange, Axes, StoredTensor, TfliteWriter
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Op, ValueName
from edgecnn.program.quantized import QuantizedGraph

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


class MixedInt8Writer(TfliteInt8Writer):
    """Writes each node in int8, or in float where the quantized graph skips it."""

    def __init__(self, graph: Graph, quantized: QuantizedGraph, io: str = "float32") -> None:
        self._skipped = quantized.skipped
        self.in_float = False
        self._converted: dict[ValueName, list[StoredTensor]] = {}
        self._turned: set[ValueName] = set()
        """Values that are being read as the other type: float values as int8, integer values as float."""
        super().__init__(graph, quantized, io)

    def enter(self, node: Node) -> None:
        """A node is about to be lowered."""
        self.in_float = node.name in self._skipped

    def version_of(self, operator: str) -> int:
        """The first version that has the type in use."""
        return 1 if self.in_float and operator not in CONVERSIONS else super().version_of(operator)

    def read(self, value: ValueName, axes: Axes, node: Node) -> int:
        """The tensor that holds a value in the given order, as int8 or float32, whichever the node takes."""
        if value in self.graph.constants or (value in self._skipped) == (node.name in self._skipped):
            return super().read(value, axes, node)
        own = self._stored[value]
        self._turned.add(value)
        self._stored[value] = self._converted.setdefault(value, [])
        if not self._stored[value]:
            self._stored[value].append(self._convert(value, own[0]))
        index = super().read(value, axes, node)
        self._stored[value] = own
        self._turned.remove(value)
        return index

    def read_as(self, value: ValueName, axes: Axes, node: Node) -> int:
        """A value under the parameters of the node's value; as it is where that value is float."""
        return self.read(value, axes, node) if self.in_float else super().read_as(value, axes, node)

    def bound_matters(self, node: Node, operator: str, bound: float) -> bool:
        """Whether a bound changes anything that the node's value can hold."""
        given = TfliteWriter if self.in_float else TfliteInt8Writer
        return given.bound_matters(self, node, operator, bound)

    def weights(self, name: ValueName, arrange: Arrange, channel_axis: int, *, key: tuple[Any, ...]) -> int:
        """A layer's weights, as integers or in float."""
        if self.in_float:
            return TfliteWriter.weights(self, name, arrange, channel_axis, key=("float", *key))
        return super().weights(name, arrange, channel_axis, key=key)

    def bias(self, node: Node, bias: ValueName | None, channels: int) -> int:
        """A layer's bias, as int32 or in float."""
        given = TfliteWriter if self.in_float else TfliteInt8Writer
        return given.bias(self, node, bias, channels)

    def operand(self, name: ValueName, arrange: Arrange, *, key: tuple[Any, ...]) -> int:
        """A constant operand, as integers or in float."""
        if self.in_float:
            return TfliteWriter.operand(self, name, arrange, key=("float", *key))
        return super().operand(name, arrange, key=key)

    def number(self, node: Node, value: float, shape: tuple[int, ...]) -> int:
        """A number, as an integer or in float like the node's value."""
        given = TfliteWriter if self.in_float else TfliteInt8Writer
        return given.number(self, node, value, shape)

    def _convert(self, value: ValueName, source: StoredTensor) -> StoredTensor:
        to_integers = value in self._skipped
        name = f"{value}.q" if to_integers else f"{value}.real"
        tensor = self._value_tensor(name, self.graph.shapes[value], source.axes, public=False, value=value)
        operator, options = ("QUANTIZE", "QuantizeOptions") if to_integers else ("DEQUANTIZE", "DequantizeOptions")
        self._append(operator, [source.index], tensor.index, (options, {}), 1)
        return tensor

    def tensors_of(self, value: ValueName) -> list[StoredTensor]:
        """The tensors that hold a value, as int8 and as float."""
        return [*super().tensors_of(value), *self._converted.get(value, [])]

    def _output_tensor(self, value: ValueName) -> StoredTensor:
        if value in self._skipped:
            return super(QuantizedWriter, self)._output_tensor(value)
        return super()._output_tensor(value)

    def _type_value(self, index: int, value: ValueName) -> None:
        if (value in self._skipped) == (value in self._turned):
            super()._type_value(index, value)


def _entering(lower: Callable[..., None], integer: Callable[..., None]) -> Callable[[MixedInt8Writer, Node, Any], None]:
    def entered(w: MixedInt8Writer, node: Node, op: Op) -> None:
        w.enter(node)
        (lower if w.in_float else integer)(w, node, op)

    entered.__doc__ = integer.__doc__
    return entered


LOWERINGS: Mapping[type[Op], Callable[[MixedInt8Writer, Node, Any], None]] = MappingProxyType(
    {kind: _entering(lower, LOWERINGS_INT8[kind]) for kind, lower in PLAIN.items()}
)
