"""A network as a list of operators in running order, and the builder that makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgecnn.errors import GraphError
from edgecnn.graph.ops import Op, ValueName, inputs_of
from edgecnn.graph.shapes import Shape
from edgecnn.types import FloatArray


@dataclass(frozen=True, slots=True)
class Origin:
    """The place in the user's code that an operator comes from."""

    module: str = ""
    """Path of the innermost module, such as ``features.0``; empty for the model itself."""
    source: str = ""
    """``file:line``."""
    operator: str = ""
    """The torch operator, such as ``aten.conv2d.default``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator and its one result. The result has the node's name."""

    name: ValueName
    op: Op
    shape: Shape
    origin: Origin = Origin()

    @property
    def inputs(self) -> tuple[ValueName, ...]:
        """The names of the values that the operator reads."""
        return inputs_of(self.op)

    def describe(self) -> str:
        """``name (Operator)``, for messages."""
        return f"{self.name} ({type(self.op).__name__})"


@dataclass(frozen=True, slots=True)
class Input:
    """A value that the caller supplies."""

    name: ValueName
    shape: Shape


@dataclass(frozen=True, slots=True)
class Output:
    """A value that the caller receives under a public name."""

    name: str
    value: ValueName


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Inputs, operators in running order, outputs, and the constants (float32, read-only).

    Every name means one value: an input, a constant, or a node's result.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    constants: Mapping[ValueName, FloatArray]

    @cached_property
    def shapes(self) -> Mapping[ValueName, Shape]:
        """The shape of every value."""
        shapes: dict[ValueName, Shape] = {i.name: i.shape for i in self.inputs}
        shapes.update((name, array.shape) for name, array in self.constants.items())
        shapes.update((n.name, n.shape) for n in self.nodes)
        return MappingProxyType(shapes)

    @cached_property
    def producers(self) -> Mapping[ValueName, Node]:
        """The node that computes each value."""
        return MappingProxyType({n.name: n for n in self.nodes})

    @cached_property
    def uses(self) -> Mapping[ValueName, int]:
        """How often each value is read by nodes or used as an output."""
        counts = Counter(name for n in self.nodes for name in n.inputs)
        counts.update(o.value for o in self.outputs)
        return MappingProxyType(counts)

    @cached_property
    def parameters(self) -> int:
        """Number of constant elements."""
        return sum(array.size for array in self.constants.values())


@dataclass(kw_only=True)
class GraphBuilder:
    """A graph under construction. Each added operator is checked, and its shape inferred, at once."""

    inputs: list[Input] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    constants: dict[ValueName, FloatArray] = field(default_factory=dict)
    shapes: dict[ValueName, Shape] = field(default_factory=dict)
    _numbers: dict[ValueName, int] = field(default_factory=dict)
    _reserved: frozenset[ValueName] = frozenset()

    @classmethod
    def like(cls, graph: Graph) -> GraphBuilder:
        """A builder with the inputs, outputs and constants of a graph, and no nodes yet.

        The names of the graph's nodes are reserved: `place` takes them, `add` and `constant` do not.
        """
        builder = cls(inputs=list(graph.inputs), outputs=list(graph.outputs), constants=dict(graph.constants))
        builder.shapes.update((i.name, i.shape) for i in graph.inputs)
        builder.shapes.update((name, array.shape) for name, array in graph.constants.items())
        builder._reserved = frozenset(n.name for n in graph.nodes)
        return builder

    def input(self, name: ValueName, shape: Shape) -> ValueName:
        """Declare an input; return its name."""
        self._claim(name, shape)
        self.inputs.append(Input(name, shape))
        return name

    def constant(self, name: ValueName, array: npt.NDArray[np.generic]) -> ValueName:
        """Add a constant; return its name, which has a number appended where ``name`` is taken.

        Raises:
            GraphError: if a value is NaN or infinite once it is float32.
        """
        if array.dtype == np.float32:
            values = np.ascontiguousarray(array)
        else:
            with np.errstate(over="ignore"):  # an overflow is refused below
                values = np.ascontiguousarray(array, dtype=np.float32)
        values = values.reshape(array.shape)  # ascontiguousarray makes 0-d arrays 1-d
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise GraphError(
                f"constant {name} holds {count} values that are NaN or infinite in float32",
                hint="look at the training run or the checkpoint these weights come from",
            )
        values.setflags(write=False)
        name = self.free_name(name)
        self._claim(name, values.shape)
        self.constants[name] = values
        return name

    def add(self, op: Op, name: ValueName, origin: Origin = Origin()) -> ValueName:
        """Add an operator; return the name of its result, which has a number appended where ``name`` is taken.

        Raises:
            GraphError: if the operator does not fit its inputs.
        """
        name = self.free_name(name)
        self.place(op, name, origin)
        return name

    def place(self, op: Op, name: ValueName, origin: Origin) -> None:
        """Add an operator under exactly this name.

        Raises:
            GraphError: if the name is taken, or the operator does not fit its inputs.
        """
        try:
            shape = op.shape(*(self.shapes[i] for i in inputs_of(op)))
        except GraphError as err:
            err.where = err.where or _place(name, origin)
            raise
        except KeyError as err:
            raise GraphError(f"{name} reads {err}, which no input, constant or earlier node gives") from None
        self._claim(name, shape)
        self.nodes.append(Node(name=name, op=op, shape=shape, origin=origin))

    def output(self, name: str, value: ValueName) -> None:
        """Declare an output."""
        self.outputs.append(Output(name, value))

    def free_name(self, wanted: ValueName) -> ValueName:
        """The name itself if it is free, else the name with the first number that makes it unique."""
        if not self._is_taken(wanted):
            return wanted
        number = self._numbers.get(wanted, 1)  # names are never released, so continue where the last search ended
        while self._is_taken(f"{wanted}_{number}"):
            number += 1
        self._numbers[wanted] = number
        return f"{wanted}_{number}"

    def build(self) -> Graph:
        """The finished graph, without nodes and constants that no output depends on."""
        needed = {o.value for o in self.outputs}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.name in needed:
                kept.append(node)
                needed.update(node.inputs)
        return Graph(
            inputs=tuple(self.inputs),
            nodes=tuple(reversed(kept)),
            outputs=tuple(self.outputs),
            constants=MappingProxyType({k: v for k, v in self.constants.items() if k in needed}),
        )

    def _is_taken(self, name: ValueName) -> bool:
        return name in self.shapes or name in self._reserved

    def _claim(self, name: ValueName, shape: Shape) -> None:
        if name in self.shapes:
            raise GraphError(f"two values are named {name}")
        self.shapes[name] = tuple(shape)


def _place(name: str, origin: Origin) -> str:
    return ", ".join(part for part in (name, origin.operator, origin.source) if part)
