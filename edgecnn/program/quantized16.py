"""The int16x8 program: a graph with the scales of its int16 values, its int8 weights and its int64 biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgecnn.errors import QuantizationError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Activation, Conv2d, Linear, ValueName
from edgecnn.graph.traits import traits_of
from edgecnn.program.integer_weights import quantize_weights
from edgecnn.program.qparams import SMALLEST_SCALE, Float, QWeights
from edgecnn.program.quantized import constant_operands

INT16_MIN, INT16_MAX = -(1 << 15), (1 << 15) - 1
"""Range of int16."""
RELUS = ((0.0, np.inf), (0.0, 6.0))
"""Bounds of the clamps whose kernels can change the scale. Others become MAXIMUM and MINIMUM, which cannot."""
MAX_SHIFT = 7
"""Kernels multiply by less than 2^7 (``MultiplyByQuantizedMultiplier`` in tensorflow/lite/kernels/internal)."""
MAX_ACCUMULATOR = 1 << 46
"""Kernels take accumulators below 2^47; the golden executor holds one bit less."""
Int16 = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Scale16:
    """The scale of an int16 tensor, its only parameter.

    Raises:
        QuantizationError: if the scale is not positive and normal.
    """

    scale: np.float32

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale >= SMALLEST_SCALE):
            raise QuantizationError(
                f"a scale of {self.scale} cannot be used", why="it is not a normal positive float32"
            )

    def quantize(self, real: npt.NDArray[np.floating]) -> Int16:
        """The nearest integers, half to even, clamped."""
        with np.errstate(over="ignore"):  # a padding with the lowest float32 becomes the lowest integer
            scaled = np.rint(real.astype(np.float32) / self.scale)
        integers: Int16 = np.clip(scaled, INT16_MIN, INT16_MAX).astype(np.int16)
        return integers

    def dequantize(self, integers: npt.NDArray[np.integer]) -> Float:
        """The real values in float32."""
        real: Float = integers.astype(np.float32) * self.scale
        return real

    def bounds(self, activation: Activation) -> tuple[int, int]:
        """Lowest and highest integer after an activation (``CalculateActivationRangeQuantized``)."""
        low, high = (
            end if not np.isfinite(bound) else round_half_away(float(np.float32(bound) / self.scale))
            for bound, end in zip(activation.bounds, (INT16_MIN, INT16_MAX), strict=True)
        )
        return max(low, INT16_MIN), min(high, INT16_MAX)


@dataclass(frozen=True, kw_only=True)
class QuantizedGraph16:
    """A graph and its integers for int16x8.

    Attributes:
        graph: The float graph.
        activations: The scale of every input, computed value and constant operand.
        weights: By constant name, the int8 weights of convolutions and linear layers.
        biases: By node name, their biases as int64 at the scales ``input scale * weight scales``.
    """

    graph: Graph
    activations: Mapping[ValueName, Scale16]
    weights: Mapping[ValueName, QWeights]
    biases: Mapping[ValueName, npt.NDArray[np.int64]]

    def same_storage(self, a: ValueName, b: ValueName) -> bool:
        """Whether two values have the same scale."""
        return a in self.activations and self.activations[a] == self.activations.get(b)


def follow_int16(q: QuantizedGraph16, graph: Graph) -> QuantizedGraph16:
    """The program for a graph that a format's legalization made from the program's graph.

    A new value takes its scale from the value that it is a copy or a part of, as in
    :func:`edgecnn.program.quantized.follow`.

    Raises:
        QuantizationError: if there is no such value.
    """
    scales = dict(q.activations)
    for node in graph.nodes:
        if node.name not in scales:
            known = [node.inputs[0]] if traits_of(node.op).shares_parameters else []
            known += [
                n.name
                for n in graph.nodes
                if node.name in n.inputs and traits_of(n.op).shares_parameters and n.name in q.activations
            ]
            if not known:
                raise QuantizationError(f"{node.describe()} was added by legalization and has no scale")
            scales[node.name] = scales[known[0]]
    return with_scales(graph, scales)


def round_half_away(value: float) -> int:
    """The nearest integer, halves away from zero, like C's ``round``."""
    return int(np.copysign(np.floor(abs(value) + 0.5), value))


def multipliers(x: Scale16, weights: QWeights, y: Scale16) -> npt.NDArray[np.float64]:
    """The factors from accumulators to the output's integers, one per channel."""
    real: npt.NDArray[np.float64] = float(x.scale) * weights.scales.astype(np.float64) / float(y.scale)
    return real


def with_scales(graph: Graph, given: Mapping[ValueName, Scale16]) -> QuantizedGraph16:
    """The program of a graph whose values have these scales. All integers follow from the two.

    Args:
        graph: The graph.
        given: The scale of every input and computed value.

    Raises:
        QuantizationError: if weights or biases do not fit.
    """
    scales = dict(given)
    weights: dict[ValueName, QWeights] = {}
    biases: dict[ValueName, npt.NDArray[np.int64]] = {}
    for node in graph.nodes:
        for name in constant_operands(graph, node):
            scales.setdefault(name, scale_of_reach(float(np.abs(graph.constants[name]).max())))
        if isinstance(node.op, Conv2d | Linear):
            weights.setdefault(node.op.weight, quantize_weights(node, graph.constants[node.op.weight]))
            bias = None if node.op.bias is None else graph.constants[node.op.bias]
            biases[node.name] = _bias(node, bias, scales[node.op.x], weights[node.op.weight])
            _check_multipliers(node, multipliers(scales[node.op.x], weights[node.op.weight], scales[node.name]))
    return QuantizedGraph16(
        graph=graph, activations=MappingProxyType(scales), weights=MappingProxyType(weights), biases=biases
    )


def scale_of_reach(reach: float) -> Scale16:
    """The scale that covers -reach to reach; 1/32767 where reach is 0."""
    return Scale16(np.float32(reach if reach > 0 else 1) / np.float32(INT16_MAX))


def _bias(node: Node, bias: Float | None, x: Scale16, weights: QWeights) -> npt.NDArray[np.int64]:
    if bias is None:
        return np.zeros(len(weights.scales), np.int64)
    real = np.rint(bias.astype(np.float64) / (weights.scales.astype(np.float64) * float(x.scale)))
    reach = np.abs(weights.integers.reshape(len(real), -1).astype(np.int64)).sum(axis=1) * -INT16_MIN
    worst = int(np.argmax(np.abs(real) + reach))
    if abs(real[worst]) + reach[worst] >= MAX_ACCUMULATOR:
        raise QuantizationError(
            f"{node.describe()}: the bias of channel {worst} does not fit the accumulator",
            why=f"it is {bias[worst]:.3g} at a scale of {float(weights.scales[worst] * x.scale):.1e}",
            hint="look for a channel whose weights are nearly 0 but whose bias is not",
        )
    return real.astype(np.int64)


def _check_multipliers(node: Node, real: npt.NDArray[np.float64]) -> None:
    worst = int(real.argmax())
    if np.frexp(real[worst])[1] > MAX_SHIFT:
        raise QuantizationError(
            f"{node.describe()}: the output's scale is too small for the scales of the input and of channel {worst}",
            why=f"int16 kernels multiply by less than {1 << MAX_SHIFT}, here it is {real[worst]:.3g}",
            hint="look at the calibration data: the layer's output is nearly 0 on it",
        )
