"""The int8 program: a graph, the parameters of its values, and its integer weights and biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgecnn.errors import QuantizationError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Add, Concat, MatMul, Maximum, Minimum, Mul, PRelu, Sub, ValueName
from edgecnn.graph.traits import traits_of
from edgecnn.program.integer_weights import WEIGHT_MAX, weights_and_biases
from edgecnn.program.qparams import Float, Int8, QParams, QWeights, Range, from_magnitude, from_range

SMALLEST_RANGE = 2.0**-100
"""Ends of a range closer to 0 than this count as 0: products with such a scale would underflow float32."""


@dataclass(frozen=True, kw_only=True)
class QuantizedGraph:
    """A graph and its integers for int8.

    Attributes:
        graph: The float graph.
        activations: Parameters of every input, computed value and constant operand.
        weights: By constant name, the integer weights of convolutions and linear layers.
        biases: By node name, their biases as int32 at the scales ``input scale * weight scales``.
        skipped: Nodes that stay float. They read dequantized values, or the float32 result of another such node, and
            give float32, which is quantized by ``activations`` where int8 operators read it.
        weight_limit: Largest magnitude of an integer weight.
        uint8_weights: Whether ONNX files store the weights of layers that can saturate on x86 without VNNI as uint8.
            The integers are the same.
        notes: Sentences for the user about the quantization.
    """

    graph: Graph
    activations: Mapping[ValueName, QParams]
    weights: Mapping[ValueName, QWeights]
    biases: Mapping[ValueName, npt.NDArray[np.int32]]
    skipped: frozenset[ValueName] = frozenset()
    weight_limit: int = WEIGHT_MAX
    uint8_weights: bool = False
    notes: tuple[str, ...] = ()

    def same_storage(self, a: ValueName, b: ValueName) -> bool:
        """Whether two values are stored in the same way: both in float, or as integers with the same parameters."""
        if a in self.skipped or b in self.skipped:
            return a in self.skipped and b in self.skipped
        return a in self.activations and self.activations[a] == self.activations.get(b)


def params_of_range(name: ValueName, span: Range, symmetric: bool) -> QParams:
    """Parameters for a range; ends within ``SMALLEST_RANGE`` of 0 count as 0.

    Raises:
        QuantizationError: if the range is too wide for float32.
    """
    low, high = (0.0 if abs(end) < SMALLEST_RANGE else end for end in span)
    try:
        return from_magnitude(max(-low, high)) if symmetric else from_range(low, high)
    except QuantizationError as err:
        raise QuantizationError(f"{name} cannot be quantized: its range is {low:.3g} to {high:.3g}") from err


def constant_operands(graph: Graph, node: Node) -> list[ValueName]:
    """The constants that a node reads as values, not as weights."""
    if isinstance(node.op, Add | Sub | Mul | Minimum | Maximum | MatMul | PRelu | Concat):
        return [i for i in node.inputs if i in graph.constants]
    return []


def extent_of(array: Float) -> Range:
    """The lowest and highest value of a constant."""
    return float(array.min()), float(array.max())


def integers_of(q: QuantizedGraph, constant: ValueName) -> Int8:
    """The integers of a constant operand."""
    return q.activations[constant].quantize(q.graph.constants[constant])


def follow(q: QuantizedGraph, graph: Graph) -> QuantizedGraph:
    """The program for a graph that a format's legalization made from the program's graph.

    A new value takes its parameters from the value that it is a copy or a part of: paddings and slices from their
    input, the groups of a split convolution from the concatenation that joins them.

    Raises:
        QuantizationError: if there is no such value.
    """
    activations, skipped = dict(q.activations), _follow_skipped(q, graph)
    passed_on = {
        i: q.activations[n.name]
        for n in reversed(graph.nodes)
        if traits_of(n.op).shares_parameters and n.name in q.activations
        for i in n.inputs
    }
    for node in graph.nodes:
        if node.name not in activations:
            activations[node.name] = _followed(node, activations, passed_on)
        for name in constant_operands(graph, node):
            activations.setdefault(name, params_of_range(name, extent_of(graph.constants[name]), False))
    weights, biases = weights_and_biases(graph, activations, skipped, q.weight_limit, [])
    return replace(
        q,
        graph=graph,
        activations=activations,
        weights={**weights, **q.weights},
        biases={**biases, **q.biases},
        skipped=skipped,
    )


def _follow_skipped(q: QuantizedGraph, graph: Graph) -> frozenset[ValueName]:
    """The nodes that stay float: a new node stands before the node it was added for, and is float if that is."""
    known = {n.name for n in q.graph.nodes}
    skipped = set(q.skipped)
    read: set[ValueName] = set()
    for node in reversed(graph.nodes):
        if node.name not in known and node.name in read:
            skipped.add(node.name)
        if node.name in skipped:
            read.update(node.inputs)
    return frozenset(skipped & {n.name for n in graph.nodes})


def _followed(node: Node, known: Mapping[ValueName, QParams], passed_on: Mapping[ValueName, QParams]) -> QParams:
    if traits_of(node.op).shares_parameters:
        return known[node.inputs[0]]
    if node.name in passed_on:
        return passed_on[node.name]
    raise QuantizationError(f"{node.describe()} was added by legalization and has no parameters")
