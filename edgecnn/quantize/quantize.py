"""Parameters for every value, integers for every weight: the one program that both int8 formats hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgecnn.errors import QuantizationError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Activation,
    Add,
    AvgPool2d,
    Clamp,
    Concat,
    Conv2d,
    Div,
    Linear,
    MaxPool2d,
    Mul,
    Pad,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Transpose,
    ValueName,
)
from edgecnn.graph.qparams import Float, Int8, QParams, QWeights, from_range
from edgecnn.quantize.calibrate import CALIBRATORS, DEFAULT, Range
from edgecnn.quantize.observe import Observer

SAME_PARAMETERS = (MaxPool2d, AvgPool2d, Reshape, Transpose, Pad, Slice, Concat)
"""Operators whose inputs and output share their parameters, by TFLite's quantization specification."""
FIXED: Mapping[type, QParams] = MappingProxyType(
    {
        Softmax: QParams(np.float32(1 / 256), -128),
        Sigmoid: QParams(np.float32(1 / 256), -128),
        Tanh: QParams(np.float32(1 / 128), 0),
    }
)
"""Output parameters that the specification prescribes."""
INT32_MAX = 2**31 - 1
WEIGHT_MAX = 127


@dataclass(frozen=True, kw_only=True)
class QuantizedGraph:
    """A graph and its integers.

    Attributes:
        graph: The float graph.
        activations: Parameters of every input, computed value and constant operand.
        weights: By constant name, the integer weights of convolutions and linear layers.
        biases: By node name, their biases as int32 at the scales ``input scale * weight scales``.
    """

    graph: Graph
    activations: Mapping[ValueName, QParams]
    weights: Mapping[ValueName, QWeights]
    biases: Mapping[ValueName, npt.NDArray[np.int32]]


def quantize(graph: Graph, observers: Mapping[ValueName, Observer], *, calibrator: str = DEFAULT) -> QuantizedGraph:
    """Quantize a graph to int8 by what was observed on calibration data.

    Args:
        graph: The graph, its average poolings legalized.
        observers: What each value was seen to be.
        calibrator: A name of :data:`~edgecnn.quantize.calibrate.CALIBRATORS`.

    Raises:
        QuantizationError: if an operator has no int8 form, parameters contradict, or weights or biases do not fit.
    """
    ranges = {name: CALIBRATORS[calibrator](observer) for name, observer in observers.items()}
    activations = _activations(graph, ranges)
    weights: dict[ValueName, QWeights] = {}
    biases: dict[ValueName, npt.NDArray[np.int32]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Conv2d | Linear):
            weights.setdefault(node.op.weight, quantize_weights(node, graph.constants[node.op.weight]))
            bias = None if node.op.bias is None else graph.constants[node.op.bias]
            biases[node.name] = _quantize_bias(node, bias, activations[node.op.x], weights[node.op.weight])
    return QuantizedGraph(graph=graph, activations=activations, weights=weights, biases=biases)


def quantize_weights(node: Node, weight: Float) -> QWeights:
    """Symmetric int8 in [-127, 127], one scale per output channel. A channel of zeros gets the scale 1.

    Raises:
        QuantizationError: if a channel's largest weight is too small for a normal float32 scale.
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    scales = np.where(largest > 0, largest / WEIGHT_MAX, 1.0).astype(np.float32)
    if (scales < np.finfo(np.float32).tiny).any():
        raise QuantizationError(
            f"{node.describe()}: the weights of channel {int(scales.argmin())} are too small to be quantized",
            why=f"the largest is {largest[scales.argmin()]:.1e}",
            hint="set them to 0, or scale the layer up",
        )
    column = scales.reshape(-1, *(1,) * (weight.ndim - 1))
    integers = np.clip(np.rint(weight / column), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    return QWeights(integers, scales)


def _quantize_bias(node: Node, bias: Float | None, x: QParams, weights: QWeights) -> npt.NDArray[np.int32]:
    if bias is None:
        return np.zeros(len(weights.scales), np.int32)
    real = np.rint(bias.astype(np.float64) / (weights.scales.astype(np.float64) * float(x.scale)))
    reach = np.abs(weights.integers.reshape(len(real), -1).astype(np.int64)).sum(axis=1) * 255
    worst = int(np.argmax(np.abs(real) + reach))
    if abs(real[worst]) + reach[worst] > INT32_MAX:
        raise QuantizationError(
            f"{node.describe()}: the bias of channel {worst} does not fit an int32 accumulator",
            why=f"it is {bias[worst]:.3g} at a scale of {float(weights.scales[worst] * x.scale):.1e}",
            hint="look for a channel whose weights are nearly 0 but whose bias is not",
        )
    return real.astype(np.int32)


def _activations(graph: Graph, ranges: Mapping[ValueName, Range]) -> dict[ValueName, QParams]:
    groups = _Groups()
    for node in graph.nodes:
        if isinstance(node.op, Div):
            raise QuantizationError(
                f"{node.describe()}: division by a computed value has no int8 form", hint="a multiplication"
            )
        if isinstance(node.op, SAME_PARAMETERS):
            for x in node.inputs:
                groups.join(node.name, x)
    found: dict[ValueName, QParams] = {}
    fixed = {groups.root(n.name): (n, FIXED[type(n.op)]) for n in graph.nodes if type(n.op) in FIXED}
    spans: dict[ValueName, Range] = {}
    values = {i.name: ranges[i.name] for i in graph.inputs}
    values |= {n.name: _clamped(n, ranges[n.name]) for n in graph.nodes}
    for name, (low, high) in values.items():
        before = spans.get(groups.root(name), (low, high))
        spans[groups.root(name)] = min(before[0], low), max(before[1], high)
    for name in values:
        root = groups.root(name)
        found[name] = fixed[root][1] if root in fixed else from_range(*spans[root])
    for root, (node, params) in fixed.items():
        low, high = spans[root]
        if high > params.high + float(params.scale) or low < params.low - float(params.scale):
            raise QuantizationError(
                f"{node.describe()} has prescribed parameters, and shares them with values of {low:.3g} to {high:.3g}",
                hint="concatenate before the activation, not after it",
            )
    found |= {name: _constant_params(graph.constants[name]) for n in graph.nodes for name in _operands(graph, n)}
    return found


def _operands(graph: Graph, node: Node) -> list[ValueName]:
    """Constants that a node reads as values, not as weights."""
    if isinstance(node.op, Add | Sub | Mul):
        return [i for i in node.inputs if i in graph.constants]
    return []


def _constant_params(array: Float) -> QParams:
    return from_range(float(array.min()), float(array.max()))


def _clamped(node: Node, observed: Range) -> Range:
    """A value's range, cut to what its operator's clamp lets through, and ending at 0 where that does."""
    activation: Activation = getattr(node.op, "activation", Activation.NONE)
    low, high = (node.op.low, node.op.high) if isinstance(node.op, Clamp) else activation.bounds
    return max(observed[0], low), min(observed[1], high)


class _Groups:
    """Values that must share their parameters (a union-find)."""

    def __init__(self) -> None:
        self._parents: dict[ValueName, ValueName] = {}

    def root(self, name: ValueName) -> ValueName:
        while name in self._parents:
            name = self._parents[name]
        return name

    def join(self, a: ValueName, b: ValueName) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self._parents[a] = b


def integers_of(q: QuantizedGraph, constant: ValueName) -> Int8:
    """A constant operand's integers."""
    return q.activations[constant].quantize(q.graph.constants[constant])


def follow(q: QuantizedGraph, graph: Graph) -> QuantizedGraph:
    """The same program for a graph that a format's legalization has made of it.

    New values take their parameters from what they are copies or parts of: paddings and slices from their input, the
    groups of a split convolution from the concatenation that joins them.

    Raises:
        QuantizationError: if a new value is neither.
    """
    activations, weights, biases = dict(q.activations), dict(q.weights), dict(q.biases)
    for node in graph.nodes:
        if node.name not in activations:
            activations[node.name] = _followed(q, graph, node, activations)
        for name in _operands(graph, node):
            activations.setdefault(name, _constant_params(graph.constants[name]))
        if isinstance(node.op, Conv2d | Linear):
            weights.setdefault(node.op.weight, quantize_weights(node, graph.constants[node.op.weight]))
            if node.name not in biases:
                bias = None if node.op.bias is None else graph.constants[node.op.bias]
                biases[node.name] = _quantize_bias(node, bias, activations[node.op.x], weights[node.op.weight])
    return QuantizedGraph(graph=graph, activations=activations, weights=weights, biases=biases)


def _followed(q: QuantizedGraph, graph: Graph, node: Node, known: Mapping[ValueName, QParams]) -> QParams:
    if isinstance(node.op, SAME_PARAMETERS):
        return known[node.inputs[0]]
    for reader in graph.nodes:
        if node.name in reader.inputs and isinstance(reader.op, SAME_PARAMETERS) and reader.name in q.activations:
            return q.activations[reader.name]
    raise QuantizationError(f"{node.describe()} was made by legalization, and has no parameters")
