"""Propagate reorderings of channels forward, and fold them into the weights of the layers that read them.

A shuffle followed by a split, as in ShuffleNet, then moves no data: the convolutions after it read channels in the
order in which they are stored, by reordered weights. Operators in between work on the channels in any order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgecnn.graph.graph import Graph, GraphBuilder, Node
from edgecnn.graph.ops import (
    Concat,
    Conv2d,
    ConvTranspose2d,
    Gather,
    Linear,
    Op,
    Slice,
    ValueName,
    with_inputs,
)
from edgecnn.graph.traits import CHANNELS, traits_of
from edgecnn.types import FloatArray

Order = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the channels of a value are stored: channel ``i`` is channel ``order[i]`` of ``value``."""

    value: ValueName
    order: Order

    @property
    def inverse(self) -> Order:
        """The channel that is stored at each place, if ``value`` holds no other channels."""
        return np.argsort(self.order)


def propagate_channel_order(graph: Graph) -> Graph:
    """Move reorderings and selections of channels forward, into the weights of convolutions and linear layers.

    Selected channels stay in the order in which they are stored, so that neighbours stay together. A grouped
    convolution absorbs the order within each group. Before an operator that needs the original order, the channels are
    picked in that order. Does not apply to outputs, nor to selections that contain a channel twice.
    """
    propagation = _Propagation(graph)
    for node in graph.nodes:
        propagation.visit(node)
    return propagation.builder.build()


class _Propagation:
    """The graph under construction.

    Attributes:
        graph: The original graph; methods take the names of its values.
        builder: The rewritten graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.builder = graph, GraphBuilder.like(graph)
        self._outputs = {o.value for o in graph.outputs}
        self._free = _free_values(graph, self._outputs)
        self._stored: dict[ValueName, Stored] = {}
        """Values that the new graph does not hold under their own name in their original order."""
        self._picked: dict[tuple[ValueName, bytes], ValueName] = {}
        self._taken: dict[tuple[ValueName, bytes], ValueName] = {}

    def visit(self, node: Node) -> None:
        """Put a node into the new graph, or note where the channels of its result are stored."""
        if not (self._picks(node) or self._reads(node) or self._passes(node)):
            own = {name: self._in_own_order(name) for name in node.inputs if name in self._stored}
            self.builder.place(with_inputs(node.op, own), node.name, node.origin)

    def _picks(self, node: Node) -> bool:
        match node.op:
            case Gather(x=x, axis=1, indices=indices) if len(set(indices)) == len(indices):
                chosen = np.array(indices)
            case Slice(x=x, axis=1, start=start, stop=stop, step=step) if x in self._stored:
                chosen = np.arange(start, stop, step)
            case _:
                return False
        source = self._where(x)
        self._stored[node.name] = Stored(source.value, source.order[chosen])
        if node.name in self._outputs:
            self.builder.place(_choice(source.value, source.order[chosen]), node.name, node.origin)
            del self._stored[node.name]
        return True

    def _reads(self, node: Node) -> bool:
        """Fold the order of a layer's input into its weights; whether the node is one that can."""
        match node.op:
            case Conv2d(x=x, weight=weight, groups=groups) if groups > 1:
                if x not in self._stored or groups == self.graph.shapes[x][CHANNELS]:
                    return False
                value, within = self._in_groups(x, groups)
                taken = self._constant(weight, lambda a: _columns_by_group(a, within))
                return self._place(node, replace(node.op, x=value, weight=taken))
            case Conv2d(x=x, weight=weight) | ConvTranspose2d(x=x, weight=weight, groups=1) if x in self._stored:
                axis = 1 if isinstance(node.op, Conv2d) else 0
            case Linear(x=x, weight=weight, flatten=flatten) if x in self._stored:
                if not flatten and len(self.graph.shapes[x]) != 2:
                    return False
                axis = 1
            case _:
                return False
        found = self._together(x)
        taken = self._constant(weight, lambda a: _taken_by(a, found.inverse, axis))
        return self._place(node, replace(node.op, x=found.value, weight=taken))

    def _passes(self, node: Node) -> bool:
        """Run an operator on channels in their stored order, if it and all readers of its result permit that."""
        if node.name not in self._free or self._stored.keys().isdisjoint(node.inputs):
            return False
        match node.op:
            case Concat(xs=xs, axis=1):
                parts = [self._together(x) for x in xs]
                starts = np.cumsum([0, *(len(p.order) for p in parts[:-1])])
                order = np.concatenate([p.order + start for p, start in zip(parts, starts, strict=True)])
                op: Op = Concat(xs=tuple(p.value for p in parts), axis=CHANNELS)
            case Conv2d(x=x, weight=weight, bias=bias) as conv:
                found = self._together(x)
                per = np.arange(node.shape[CHANNELS] // len(found.order))
                rows, order = ((o[:, None] * len(per) + per).reshape(-1) for o in (found.inverse, found.order))
                weight = self._constant(weight, lambda a: a[rows])
                bias = None if bias is None else self._constant(bias, lambda a: a[rows])
                op = replace(conv, x=found.value, weight=weight, bias=bias)
            case _:
                computed = [i for i in node.inputs if i not in self.graph.constants]
                stored = [self._together(i) for i in computed]
                if any(not np.array_equal(s.order, stored[0].order) for s in stored):
                    return False
                names = {i: s.value for i, s in zip(computed, stored, strict=True)}
                names |= {i: self._operand(i, node, stored[0]) for i in node.inputs if i in self.graph.constants}
                op, order = with_inputs(node.op, names), stored[0].order
        self._stored[node.name] = Stored(node.name, order)
        return self._place(node, op)

    def _operand(self, name: ValueName, node: Node, stored: Stored) -> ValueName:
        """A constant operand, its channels in the stored order of the value it is combined with."""
        shape = self.graph.shapes[name]
        axis = CHANNELS + len(shape) - len(node.shape)
        if axis < 0 or shape[axis] == 1:
            return name
        return self._constant(name, lambda a: np.take(a, stored.inverse, axis=axis))

    def _place(self, node: Node, op: Op) -> bool:
        self.builder.place(op, node.name, node.origin)
        return True

    def _where(self, x: ValueName) -> Stored:
        return self._stored.get(x) or Stored(x, np.arange(self.graph.shapes[x][CHANNELS]))

    def _together(self, x: ValueName) -> Stored:
        """A value's channels in a stored value that holds no other channels."""
        source = self._where(x)
        if len(source.order) < self.builder.shapes[source.value][CHANNELS]:
            value = self._pick(x, source.value, np.sort(source.order))
            source = self._stored[x] = Stored(value, np.argsort(np.argsort(source.order)))
        return source

    def _in_own_order(self, x: ValueName) -> ValueName:
        source = self._where(x)
        return self._pick(x, source.value, source.order)

    def _in_groups(self, x: ValueName, groups: int) -> tuple[ValueName, Order]:
        """A value with each group's channels in stored order, and that order: one row per group."""
        source = self._where(x)
        order = source.order.reshape(groups, -1)
        return self._pick(x, source.value, np.sort(order, axis=1).reshape(-1)), np.argsort(order, axis=1)

    def _pick(self, x: ValueName, source: ValueName, chosen: Order) -> ValueName:
        """A selection of channels, made for ``x``; it gets the name ``x`` where that is free."""
        if np.array_equal(chosen, np.arange(self.builder.shapes[source][CHANNELS])):
            return source
        key = (source, chosen.tobytes())
        if key not in self._picked:
            name, number = x, 0
            while name in self.builder.shapes or (name != x and name in self.graph.shapes):
                number += 1
                name = f"{x}.picked{number if number > 1 else ''}"
            self.builder.place(_choice(source, chosen), name, self.graph.producers[x].origin)
            self._picked[key] = name
        return self._picked[key]

    def _constant(self, name: ValueName, change: Callable[[FloatArray], FloatArray]) -> ValueName:
        """A changed constant, under its old name if nothing else reads the old one."""
        before = self.graph.constants[name]
        after = np.ascontiguousarray(change(before))
        if np.array_equal(before, after):
            return name
        key = (name, after.tobytes())
        if key not in self._taken:
            if self.graph.uses[name] == 1:
                del self.builder.constants[name], self.builder.shapes[name]
            self._taken[key] = self.builder.constant(name, after)
        return self._taken[key]


def _choice(source: ValueName, chosen: Order) -> Op:
    first, last = int(chosen[0]), int(chosen[-1])
    if np.array_equal(chosen, np.arange(first, last + 1)):
        return Slice(x=source, axis=CHANNELS, start=first, stop=last + 1)
    return Gather(x=source, axis=CHANNELS, indices=tuple(int(i) for i in chosen))


def _taken_by(weight: FloatArray, inverse: Order, axis: int) -> FloatArray:
    """A weight for inputs in another channel order along an axis; a channel may be several adjacent columns."""
    if axis == 0:
        return weight[inverse]
    return weight.reshape(len(weight), len(inverse), -1)[:, inverse].reshape(weight.shape)


def _columns_by_group(weight: FloatArray, within: Order) -> FloatArray:
    rows = weight.reshape(len(within), -1, *weight.shape[1:])
    return np.stack([r[:, order] for r, order in zip(rows, within, strict=True)]).reshape(weight.shape)


def _free_values(graph: Graph, outputs: set[ValueName]) -> set[ValueName]:
    """Values whose channels may be stored in any order, because all readers accept that or pass it on."""
    readers: dict[ValueName, list[Node]] = defaultdict(list)
    free: set[ValueName] = set()
    for node in reversed(graph.nodes):
        if node.name not in outputs and all(_takes(graph, reader, node.name, free) for reader in readers[node.name]):
            free.add(node.name)
        for name in node.inputs:
            readers[name].append(node)
    return {n.name for n in graph.nodes if n.name in free and _carries_order(graph, n)}


def _takes(graph: Graph, reader: Node, value: ValueName, free: set[ValueName]) -> bool:
    match reader.op:
        case Conv2d(x=x, groups=groups) if x == value:
            return groups == 1 or groups < graph.shapes[x][CHANNELS] or reader.name in free
        case ConvTranspose2d(x=x, groups=groups):
            return x == value and groups == 1
        case Linear(flatten=flatten):
            return flatten or len(graph.shapes[value]) == 2
        case Gather(axis=1) | Slice(axis=1):
            return True
    return reader.name in free and _carries_order(graph, reader)


def _carries_order(graph: Graph, node: Node) -> bool:
    """Whether an operator can work on channels in another order: channel by channel, or by joining channels."""
    if isinstance(node.op, Concat) and node.op.axis == CHANNELS:
        return True
    shapes = [graph.shapes[i] for i in node.inputs if i not in graph.constants]
    return traits_of(node.op).channelwise(node.op, shapes, node.shape)
