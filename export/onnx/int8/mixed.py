"""int8 in ONNX with layers that a recipe leaves in float: between pairs, and without any around them.

A float layer takes integers by Cast, Sub and Mul, never by DequantizeLinear: between that and a QuantizeLinear ONNX
Runtime would quantize its float weights by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto

from edgecnn.export.onnx.int8.qdq import OFFSET, QdqWriter
from edgecnn.export.onnx.lower import LOWERINGS as PLAIN
from edgecnn.export.onnx.write import OnnxWriter
from edgecnn.export.written import Place, Written
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Op, ValueName
from edgecnn.program.quantized import QuantizedGraph


class MixedQdqWriter(QdqWriter):
    """Writes each node in int8, or in float where the quantized graph skips it."""

    def __init__(
        self,
        graph: Graph,
        opset: int,
        quantized: QuantizedGraph,
        io: str = "float32",
        wide: Mapping[ValueName, int] = MappingProxyType({}),
    ) -> None:
        self.skipped = quantized.skipped
        self._current: Node | None = None
        self._decoded: dict[ValueName, str] = {}
        super().__init__(graph, opset, quantized, io, wide)

    def enter(self, node: Node) -> None:
        """A node is about to be lowered."""
        self._current = node
        self.in_integers = not self._in_float

    @property
    def _in_float(self) -> bool:
        return self._current is not None and self._current.name in self.skipped

    def tensor(self, value: ValueName) -> str:
        """A value as the present node takes it; as it is, where there is no present node."""
        if self._in_float:
            return self._real(value)
        if value not in self.skipped:
            return super().tensor(value)
        if self._current is None:
            return OnnxWriter.tensor(self, value)
        return self._quantized(value)

    def weights(self, value: ValueName, *, transposed: bool = False) -> str:
        """A layer's weights, as integers or in float."""
        if self._in_float:
            return OnnxWriter.weights(self, value, transposed=transposed)
        return super().weights(value, transposed=transposed)

    def bias(self, node: Node, bias: ValueName | None) -> list[str]:
        """A layer's bias, as int32 or in float."""
        return OnnxWriter.bias(self, node, bias) if self._in_float else super().bias(node, bias)

    def flatten(self, node: Node, value: ValueName) -> str:
        """Flattened integers, or the real values."""
        if self._in_float:
            return OnnxWriter.flatten(self, node, value)
        self.tensor(value)  # a float value becomes integers first
        return super().flatten(node, value)

    def emit(self, operator: str, node: Node, inputs: Sequence[str], *, step: str = "", **attributes: Any) -> str:
        """Add an ONNX node, with the pair behind it unless it stays float."""
        if self._in_float:
            return OnnxWriter.emit(self, operator, node, inputs, step=step, **attributes)
        return super().emit(operator, node, inputs, step=step, **attributes)

    def emit_activated(self, operator: str, node: Node, inputs: Sequence[str], **attributes: Any) -> None:
        """Add an ONNX node; in float its activation is one more."""
        if self._in_float:
            OnnxWriter.emit_activated(self, operator, node, inputs, **attributes)
        else:
            super().emit_activated(operator, node, inputs, **attributes)

    def finish(self, *, version: str) -> Written:
        """Serialize, without what nobody reads: pairs or their second halves, where readers take another form."""
        self._current = None
        float_out = self._io == "float32"
        read = {self.tensor(o.value) if float_out else self._integers[o.value] for o in self.graph.outputs}
        kept = []
        for node in reversed(self._nodes):
            if node.output[0] in read:
                kept.append(node)
                read.update(node.input)
        self._nodes = kept[::-1]
        self._initializers = {name: made for name, made in self._initializers.items() if name in read}
        return super().finish(version=version)

    def places(self, value: ValueName) -> list[Place]:
        """The tensors that hold a value: of a float layer's the real one, and the integers where int8 reads it."""
        real = OnnxWriter.places(self, value) if value in self.skipped else []
        return [*real, *super().places(value)]

    def _real(self, value: ValueName) -> str:
        """A value for a float node: as it is, or ``(integer - zero point) * scale``."""
        if value in self.graph.constants:
            return self.initializer(f"{value}.float", self.graph.constants[value])
        if value in self.skipped:
            return OnnxWriter.tensor(self, value)
        if value not in self._decoded:
            params = self._q.activations[value]
            whole = self.node("Cast", [self._integers[value]], f"{value}.whole", to=TensorProto.FLOAT)
            zero, scale = np.float32(params.zero_point + OFFSET), np.float32(params.scale)
            centered = self.node("Sub", [whole, self._number(zero)], f"{value}.centered")
            self._decoded[value] = self.node("Mul", [centered, self._number(scale)], f"{value}.decoded")
        return self._decoded[value]

    def _quantized(self, value: ValueName) -> str:
        """A float node's value for int8 nodes, quantized once."""
        if value not in self._dequantized:
            real = OnnxWriter.tensor(self, value)
            self._dequantized[value] = self._wrap(value, real, f"{value}.dequantized")
        return self._dequantized[value]

    def _number(self, value: np.float32) -> str:
        return self.initializer(f"float:{float(value)!r}", np.array(value, np.float32))


def _entering(lower: Callable[..., None]) -> Callable[[MixedQdqWriter, Node, Any], None]:
    def entered(w: MixedQdqWriter, node: Node, op: Op) -> None:
        w.enter(node)
        lower(w, node, op)

    entered.__doc__ = lower.__doc__
    return entered


LOWERINGS: Mapping[type[Op], Callable[[MixedQdqWriter, Node, Any], None]] = MappingProxyType(
    {kind: _entering(lower) for kind, lower in PLAIN.items()}
)
