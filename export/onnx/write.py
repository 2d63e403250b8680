"""What lowerings write with: one ONNX node after the other, values read and given in float or as integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx

from edgecnn.errors import UsageError
from edgecnn.export.lowering import lower_all
from edgecnn.export.onnx.file import OnnxFile, public_names
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Activation, Op, ValueName

DEFAULT_OPSET = 17
OLDEST_OPSET = 13
Weights = Callable[[ValueName, bool], str]
"""Gives the float32 tensor of a layer's weights, transposed if so asked."""


def newest_opset() -> int:
    """The newest opset that the installed onnx package knows."""
    return int(onnx.defs.onnx_opset_version())


def check_opset(opset: int) -> None:
    """Refuse an opset that is out of range.

    Raises:
        UsageError: if it is.
    """
    if not OLDEST_OPSET <= opset <= newest_opset():
        raise UsageError(
            f"opset {opset} cannot be written",
            hint=f"an opset from {OLDEST_OPSET} to {newest_opset()}; {DEFAULT_OPSET} runs nearly everywhere",
        )


class Tensors(Protocol):
    """How nodes read values, and how the value of a node is given."""

    @property
    def in_integers(self) -> bool:
        """Whether operators take the forms that ONNX Runtime has integer kernels for."""

    def read(self, value: ValueName) -> str:
        """The float32 tensor of a value; a constant becomes an initializer at its first use."""

    def weights(self, value: ValueName, *, transposed: bool) -> str:
        """The float32 tensor of a layer's weights."""

    def bias(self, node: Node, bias: ValueName | None) -> list[str]:
        """The float32 tensor of a node's bias, if it has one."""

    def flatten(self, node: Node, value: ValueName) -> str:
        """A value with all axes but the batch as one, for a node that reads it so."""

    def give(self, node: Node, operator: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        """Add the ONNX node that computes a graph node's value; returns the name of its tensor."""


class FloatTensors:
    """Values and weights as float32 tensors.

    Args:
        file: The file under construction.
        read: How values are read; by default as the tensors of their names, constants as initializers.
        weights: How weights are read; by default as other values, transposed ones as initializers of their own.
    """

    in_integers = False

    def __init__(
        self, file: OnnxFile, *, read: Callable[[ValueName], str] | None = None, weights: Weights | None = None
    ) -> None:
        self._file = file
        self._read = read or self._by_name
        self._weights = weights or self._stored

    def read(self, value: ValueName) -> str:
        """The tensor of a value."""
        return self._read(value)

    def weights(self, value: ValueName, *, transposed: bool) -> str:
        """The tensor of a layer's weights."""
        return self._weights(value, transposed)

    def bias(self, node: Node, bias: ValueName | None) -> list[str]:  # noqa: ARG002  (integers need the node)
        """The tensor of a node's bias, if it has one."""
        return [] if bias is None else [self._read(bias)]

    def flatten(self, node: Node, value: ValueName) -> str:
        """A Flatten of the value."""
        x = self._read(value)
        return self._file.node("Flatten", [x], self._file.step_name(f"{node.name}.flatten"))

    def give(self, node: Node, operator: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        """Add the ONNX node; its tensor is the value."""
        return self._file.node(operator, inputs, self._file.name(node.name), name=node.name, **attributes)

    def _by_name(self, value: ValueName) -> str:
        name, constants = self._file.name(value), self._file.graph.constants
        return self._file.initializer(name, constants[value]) if value in constants else name

    def _stored(self, value: ValueName, transposed: bool) -> str:
        if transposed:
            return self._file.initializer(f"{value}.T", self._file.graph.constants[value].T)
        return self._read(value)


class OnnxWriter:
    """What a lowering gets: the graph, the file, and the tensors of values."""

    def __init__(self, file: OnnxFile, tensors: Tensors) -> None:
        self._file, self._tensors = file, tensors
        self.graph: Graph = file.graph
        self.opset = file.opset
        self.in_integers = tensors.in_integers
        self.initializer, self.integers = file.initializer, file.integers
        self.scalar, self.floats = file.scalar, file.floats
        self.tensor, self.bias, self.flatten = tensors.read, tensors.bias, tensors.flatten

    def weights(self, value: ValueName, *, transposed: bool = False) -> str:
        """The name of the tensor of a layer's weights."""
        return self._tensors.weights(value, transposed=transposed)

    def emit(self, operator: str, node: Node, inputs: Sequence[str], *, step: str = "", **attributes: Any) -> str:
        """Add an ONNX node for a graph node; returns the name of its tensor.

        The last ONNX node of a graph node has its name and gives its value. ``step`` names earlier ones.
        """
        if step:
            return self._file.node(operator, inputs, self._file.step_name(f"{node.name}.{step}"), **attributes)
        return self._tensors.give(node, operator, inputs, attributes)

    def emit_activated(self, operator: str, node: Node, inputs: Sequence[str], **attributes: Any) -> None:
        """Add an ONNX node and the graph node's activation; among integers, the range of the result is that."""
        activation: Activation = getattr(node.op, "activation", Activation.NONE)
        if self.in_integers or activation is Activation.NONE:
            self.emit(operator, node, inputs, **attributes)
            return
        before = self.emit(operator, node, inputs, step="linear", **attributes)
        self.clamp(node, before, *activation.bounds)

    def clamp(self, node: Node, x: str, low: float, high: float) -> None:
        """Add what clamps a tensor to give the node's value; bounds may be infinite."""
        if (low, high) == (0.0, np.inf):
            self.emit("Relu", node, [x])
        else:
            bounds = [self.scalar(b) if np.isfinite(b) else "" for b in (low, high)]
            self.emit("Clip", node, [x, *(bounds if bounds[1] else bounds[:1])])

    def give_up(self, node: Node) -> None:
        """Stand in for a value that cannot be written: its name is all that readers need."""


def write_float(
    graph: Graph,
    opset: int,
    lowerings: Mapping[type[Op], Callable[[OnnxWriter, Node, Any], None]],
    *,
    version: str,
    weights: Callable[[OnnxFile], Weights] | None = None,
) -> Written:
    """Write a graph whose values are float32.

    Args:
        graph: The graph, legalized.
        opset: Opset of the default domain.
        lowerings: A lowering per operator.
        version: The producer's version.
        weights: Makes what reads layers' weights; by default they are float32 initializers.

    Raises:
        LoweringError: if ONNX cannot express the graph.
    """
    file = OnnxFile(graph, opset, public_names(graph))
    writer = OnnxWriter(file, FloatTensors(file, weights=weights(file) if weights else None))
    lower_all(graph, writer, lowerings, "ONNX")
    for output in graph.outputs:
        if file.names.get(output.value) != output.name:  # an input, a constant, or a value given out twice
            file.node("Identity", [writer.tensor(output.value)], output.name)
    return file.finish(file.real_places, version=version)
