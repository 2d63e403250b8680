"""Depthwise convolutions as int8 ONNX files have them, in the forms that ONNX Runtime has kernels for.

The numbers stay as they are. Two things change (docs/quantization.md has what was measured):

- With up to 8 channels a depthwise convolution is written as one over all channels, with weights of zeros, which then
  is folded (:mod:`edgecnn.export.onnx.int8.folding`).
- ONNX Runtime has a quick kernel for depthwise convolutions whose channels are a multiple of 16. So images that lack a
  few get channels of zeros, where that costs no operator: the convolution before gives them by weights of zeros, the
  one after has weights of zeros for them, and all operators between keep channels apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgecnn.export.onnx.int8.folding import pays
from edgecnn.export.onnx.int8.nodes import FileGraph, plain_file_graph, with_zeros
from edgecnn.export.onnx.int8.runtime_kernels import CHANNELS, computed_inputs, is_depthwise, keeps_channels_apart
from edgecnn.graph.disjoint_sets import DisjointSets
from edgecnn.graph.graph import GraphBuilder, Node
from edgecnn.graph.ops import Conv2d, Op, ValueName, with_inputs
from edgecnn.program.qparams import QParams, QWeights
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.types import Array

FEW = 8
"""Channels up to which products with zeros cost less than what the depthwise kernel does."""
AT_ONCE = 16
"""The quick kernel's channels."""
MOST_ADDED = 1 / 8
"""Share of channels that may be added: kernels for ARM take 8 at a time, and gain little."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """A quantized graph with its depthwise convolutions in other forms.

    Attributes:
        quantized: The graph; values and nodes keep their names.
        channels: How many channels values have that got channels of zeros.
    """

    quantized: QuantizedGraph
    channels: Mapping[ValueName, int]


def depthwise_in_quick_forms(graph: FileGraph) -> FileGraph:
    """Write depthwise convolutions with channels of zeros, or as convolutions over all channels.

    Does not apply where channels of zeros would reach an input, an output, a float layer, or an operator that mixes
    channels and is no convolution; nor to convolutions over all channels that would not be folded.
    """
    adapted = adapt_depthwise(graph.quantized)
    return plain_file_graph(adapted.quantized, adapted.channels)


def adapt_depthwise(q: QuantizedGraph) -> Adapted:
    """Bring depthwise int8 convolutions into the forms that ONNX Runtime has quick kernels for.

    Channels of zeros are added only where they reach no input, no output, no float layer, and no operator that mixes
    channels but convolutions over all of them.
    """
    channels, dense = _wide(q), _dense(q)
    return Adapted(_Adapter(q, channels, dense).adapted() if channels or dense else q, channels)


def _dense(q: QuantizedGraph) -> set[ValueName]:
    """Depthwise convolutions that are to be written as convolutions over all channels, because these are folded."""
    found = set()
    for node in q.graph.nodes:
        if node.name not in q.skipped and is_depthwise(q.graph, node) and 1 < node.shape[CHANNELS] <= FEW:
            assert isinstance(node.op, Conv2d)
            if pays(q.graph.shapes[node.op.x], q.graph.shapes[node.op.weight], node, replace(node.op, groups=1)):
                found.add(node.name)
    return found


def _wide(q: QuantizedGraph) -> dict[ValueName, int]:
    """How many channels values are to have that are to get channels of zeros."""
    groups, fixed, wanting = DisjointSets[ValueName](), _fixed(q), set[ValueName]()
    for node in q.graph.nodes:
        match node.op:
            case Conv2d(groups=1):
                continue
            case Conv2d(x=x) if is_depthwise(q.graph, node):
                if 0 < -node.shape[CHANNELS] % AT_ONCE <= MOST_ADDED * node.shape[CHANNELS]:
                    wanting.add(node.name)
                groups.join(x, node.name)
            case _ if keeps_channels_apart(q.graph, node):
                groups.join(*computed_inputs(q.graph, node), node.name)
            case _:
                fixed |= {*node.inputs, node.name}
    wide = {groups.root(name) for name in wanting} - {groups.root(name) for name in fixed}
    shapes = {n.name: n.shape for n in q.graph.nodes}
    return {v: s[CHANNELS] + -s[CHANNELS] % AT_ONCE for v, s in shapes.items() if groups.root(v) in wide}


class _Adapter:
    """The graph under construction."""

    def __init__(self, q: QuantizedGraph, channels: Mapping[ValueName, int], dense: set[ValueName]) -> None:
        self._q, self._channels, self._dense = q, channels, dense
        self._builder = GraphBuilder.like(q.graph)
        self._weights: dict[ValueName, QWeights] = dict(q.weights)
        self._biases = dict(q.biases)
        self._activations: dict[ValueName, QParams] = dict(q.activations)
        self._made: dict[tuple[ValueName, tuple[int, ...]], ValueName] = {}

    def adapted(self) -> QuantizedGraph:
        """Build it."""
        for node in self._q.graph.nodes:
            op: Op = node.op
            match op:
                case Conv2d() if node.name in self._dense:
                    op = replace(op, weight=self._over_all(op.weight), groups=1)
                case Conv2d():
                    op = self._convolution(node, op)
                case _ if node.name in self._channels:
                    op = with_inputs(op, dict(self._operands(node)))
            self._builder.place(op, node.name, node.origin)
        return replace(
            self._q,
            graph=self._builder.build(),
            weights=self._weights,
            biases=self._biases,
            activations=self._activations,
        )

    def _convolution(self, node: Node, op: Conv2d) -> Conv2d:
        outs, ins, rows, columns = self._q.graph.shapes[op.weight]
        more = self._channels.get(node.name, outs) - outs
        if op.groups == 1:
            shape = (outs + more, self._channels.get(op.x, ins), rows, columns)
        else:
            shape = (outs + more, 1, rows, columns)
        if shape == (outs, ins, rows, columns):
            return op
        bias = op.bias
        if more:
            if node.name in self._biases:
                self._biases[node.name] = np.pad(self._biases[node.name], (0, more))
            bias = None if bias is None else self._constant(bias, (outs + more,))
        groups = 1 if op.groups == 1 else outs + more
        return replace(op, weight=self._constant(op.weight, shape), bias=bias, groups=groups)

    def _operands(self, node: Node) -> Iterator[tuple[ValueName, ValueName]]:
        """Constants that have a number for each channel, under the names of wider ones."""
        own, wide = node.shape[CHANNELS], self._channels[node.name]
        for name in node.inputs:
            shape = self._q.graph.constants[name].shape if name in self._q.graph.constants else ()
            axis = CHANNELS + len(shape) - len(node.shape)
            if axis >= 0 and shape[axis] == own > 1:
                yield name, self._constant(name, (*shape[:axis], wide, *shape[axis + 1 :]))

    def _constant(self, name: ValueName, shape: tuple[int, ...]) -> ValueName:
        """A constant with zeros after its own numbers."""
        return self._made_of(name, "wide", shape, lambda a: with_zeros(a, shape))

    def _over_all(self, name: ValueName) -> ValueName:
        """A depthwise convolution's weights, and zeros for the other channels."""
        channels, _, *kernel = self._q.graph.shapes[name]

        def diagonal(array: Array) -> Array:
            dense = np.zeros((channels, channels, *kernel), array.dtype)
            dense[np.arange(channels), np.arange(channels)] = array[:, 0]
            return dense

        return self._made_of(name, "dense", (channels, channels, *kernel), diagonal)

    def _made_of(self, name: ValueName, kind: str, shape: tuple[int, ...], made: Callable[[Array], Array]) -> ValueName:
        """A constant made of another one, once per shape, and its integers in the same way."""
        if (name, shape) not in self._made:
            new = self._builder.constant(f"{name}.{kind}", made(self._q.graph.constants[name]))
            self._made[name, shape] = new
            if name in self._q.activations:
                self._activations[new] = self._q.activations[name]
            if name in self._q.weights:
                own = self._q.weights[name]
                scales = np.pad(own.scales, (0, shape[0] - len(own.scales)), mode="edge")
                self._weights[new] = QWeights(made(own.integers), scales)
        return self._made[name, shape]


def _fixed(q: QuantizedGraph) -> set[ValueName]:
    """Values that inputs, outputs and float layers hold."""
    floats = {name for n in q.graph.nodes if n.name in q.skipped for name in (*n.inputs, n.name)}
    return {i.name for i in q.graph.inputs} | {o.value for o in q.graph.outputs} | floats
