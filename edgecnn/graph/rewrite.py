"""Graph rewriting: walk the operators in order and keep, replace or drop each, or fuse it into an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgecnn.graph.graph import Graph, GraphBuilder, Node, Output
from edgecnn.graph.ops import Op, ValueName, with_inputs
from edgecnn.graph.verify import verify

Rule = Callable[[Graph], Graph]
Step = Callable[["Rewriter", Node], ValueName | None]


def apply_rules(graph: Graph, rules: Iterable[Rule]) -> Graph:
    """Apply rewrites in order, and verify the graph after each.

    Raises:
        GraphError: naming the rule whose result is not valid.
    """
    for rule in rules:
        graph = verify(rule(graph), after=rule.__name__)
    return graph


def rewrite(graph: Graph, step: Step) -> Graph:
    """Walk the nodes in order; ``step`` returns the value that replaces a node, or None to keep the node."""
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        rewriter.visit(node, step)
    return rewriter.finish()


class Rewriter:
    """The graph under construction, as a step sees it: nodes before the current one are already rewritten."""

    def __init__(self, graph: Graph) -> None:
        self._builder = GraphBuilder.like(graph)
        self._index: dict[ValueName, int] = {}
        self._renamed: dict[ValueName, ValueName] = {}
        self._uses = dict(graph.uses)

    def visit(self, node: Node, step: Step) -> None:
        """Keep a node, or replace it by the value that ``step`` returns."""
        node = replace(node, op=with_inputs(node.op, self._renamed))
        value = step(self, node)
        if value is None:
            self._emit(node.op, node.name, node)
        else:
            self._renamed[node.name] = value
            if value != node.name:
                self._uses[value] = self._uses.get(value, 0) - 1 + self._uses.get(node.name, 0)

    def producer(self, name: ValueName) -> Node | None:
        """The rewritten node that computes a value, or None for inputs and constants."""
        return self._builder.nodes[self._index[name]] if name in self._index else None

    def constant(self, name: ValueName | None) -> npt.NDArray[np.float32] | None:
        """The elements of a constant, or None for any other value."""
        return None if name is None else self._builder.constants.get(name)

    def shape(self, name: ValueName) -> tuple[int, ...]:
        """The shape of a value."""
        return self._builder.shapes[name]

    def sole_use(self, name: ValueName) -> bool:
        """Whether the current node is the only reader of a value."""
        return self._uses.get(name, 0) == 1

    def fuse_into(self, producer: Node, op: Op) -> ValueName:
        """Replace an earlier node's operator by one that also does the current node's work; return its value."""
        i = self._index[producer.name]
        shapes = [self._builder.shapes[name] for name in replace(producer, op=op).inputs]
        shape = op.shape(*shapes)
        self._builder.nodes[i] = replace(producer, op=op, shape=shape)
        self._builder.shapes[producer.name] = shape
        return producer.name

    def emit(self, op: Op, like: Node, suffix: str = "") -> ValueName:
        """Add an operator before the current node ``like``, or in its place.

        With a suffix the result gets its own name; without one it takes the node's name.
        """
        name = self._builder.free_name(f"{like.name}.{suffix}") if suffix else like.name
        return self._emit(op, name, like)

    def add_constant(self, name: ValueName, array: npt.NDArray[np.generic], *, instead: ValueName | None = None) -> str:
        """Add a constant; it gets the name of ``instead``, which it replaces, if nothing else reads that."""
        if instead is not None and self._uses.get(instead, 0) == 1:
            del self._builder.constants[instead], self._builder.shapes[instead]
            name = instead
        name = self._builder.constant(name, array)
        self._uses[name] = 1
        return name

    def finish(self) -> Graph:
        """The rewritten graph."""
        outputs = [Output(o.name, self._renamed.get(o.value, o.value)) for o in self._builder.outputs]
        self._builder.outputs[:] = outputs
        return self._builder.build()

    def _emit(self, op: Op, name: ValueName, like: Node) -> ValueName:
        self._builder.place(op, name, like.origin)
        self._index[name] = len(self._builder.nodes) - 1
        return name
