"""Integer weights and biases of convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgecnn.errors import QuantizationError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Conv2d, Linear, ValueName
from edgecnn.program.qparams import SMALLEST_SCALE, Float, QParams, QWeights

INT32_MAX = 2**31 - 1
WEIGHT_MAX = 127
BIAS_BUDGET = 2**30
"""The largest integer bias that a weight scale may lead to; the rest of int32 is left for the products."""
MULTIPLIERS = (2.0**-31, 2.0**8)
"""Bounds of ``input scale * weight scale / output scale``: gemmlowp shifts by 31 bits, XNNPACK takes less than 256."""


def weights_and_biases(
    graph: Graph,
    activations: Mapping[ValueName, QParams],
    skipped: frozenset[ValueName],
    limit: int,
    notes: list[str],
    *,
    linear_scales: str = "auto",
) -> tuple[dict[ValueName, QWeights], dict[ValueName, npt.NDArray[np.int32]]]:
    """Integer weights for each constant, even if several layers read it, and biases for each layer.

    Args:
        graph: The float graph.
        activations: Parameters of every value.
        skipped: Nodes that stay float.
        limit: Largest magnitude of an integer weight.
        notes: Sentences for the user are appended to it.
        linear_scales: ``layer``: one scale for a linear layer; ``channel``: one per output; ``auto``: one where that
            loses at most a bit.

    Raises:
        QuantizationError: if weights are too small for a scale, or a layer does not fit an int32 accumulator.
    """
    nodes = [n for n in graph.nodes if isinstance(n.op, Conv2d | Linear) and n.name not in skipped]
    floors: dict[ValueName, npt.NDArray[np.float64]] = {}
    for node in nodes:
        name = _weighted(node).weight
        floor = _smallest_scales(graph, node, activations)
        floors[name] = np.maximum(floors.get(name, floor), floor)
    weights: dict[ValueName, QWeights] = {}
    biases: dict[ValueName, npt.NDArray[np.int32]] = {}
    for node in nodes:
        op = _weighted(node)
        if op.weight not in weights:
            weight = graph.constants[op.weight]
            weights[op.weight] = quantize_weights(node, weight, limit, floors[op.weight])
            _note_raised(node, weight, weights[op.weight], limit, notes)
            wanted = _wanted(weight, weights[op.weight].scales, floors[op.weight])
            if isinstance(op, Linear) and (
                linear_scales == "layer" or (linear_scales == "auto" and _one_scale_suffices(wanted))
            ):
                weights[op.weight] = quantize_whole(node, weight, limit, wanted.max())
        bias = None if op.bias is None else graph.constants[op.bias]
        biases[node.name] = _quantize_bias(node, bias, activations, weights[op.weight])
    return weights, biases


def _wanted(weight: Float, scales: Float, floor: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The scale that each channel needs. A channel of zeros needs its floor only, unless all channels are zeros."""
    live = _largest(weight) > 0
    return np.where(live, scales, floor) if live.any() else scales.astype(np.float64)


def _one_scale_suffices(scales: npt.NDArray[np.float64]) -> bool:
    """Whether one scale for all channels loses at most a bit: the mean rounding error at most doubles."""
    return bool(np.sqrt((scales**2).mean()) >= scales.max() / 2)


def _weighted(node: Node) -> Conv2d | Linear:
    assert isinstance(node.op, Conv2d | Linear)
    return node.op


def _smallest_scales(graph: Graph, node: Node, activations: Mapping[ValueName, QParams]) -> npt.NDArray[np.float64]:
    """Per channel, the weight scale below which the bias leaves int32 or the multiplier underflows.

    The weights of such a channel are nearly 0, so a coarser scale has no effect that int8 could show.
    """
    op, channels = _weighted(node), len(graph.constants[_weighted(node).weight])
    x, y = float(activations[op.x].scale), float(activations[node.name].scale)
    bias = np.zeros(channels) if op.bias is None else np.abs(graph.constants[op.bias].astype(np.float64))
    least = max(MULTIPLIERS[0] * y / x, 2 * float(SMALLEST_SCALE) / min(x, 1.0))
    scales: npt.NDArray[np.float64] = np.maximum(bias / (x * BIAS_BUDGET), least)
    return scales


def _note_raised(node: Node, weight: Float, weights: QWeights, limit: int, notes: list[str]) -> None:
    largest = _largest(weight)
    dead = int((largest == 0).sum())
    raised = int(((largest > 0) & (weights.scales > 1.001 * largest / limit)).sum())
    if dead:
        notes.append(f"{node.describe()}: the weights of {dead} of {len(largest)} channels are all 0")
    if raised:
        notes.append(
            f"{node.describe()}: the weight scales of {raised} of {len(largest)} channels were raised, because their"
            " weights are nearly 0 compared with bias and output"
        )


def _largest(weight: Float) -> npt.NDArray[np.float64]:
    """The largest magnitude of each output channel."""
    largest: npt.NDArray[np.float64] = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    return largest


def quantize_weights(
    node: Node, weight: Float, limit: int = WEIGHT_MAX, floor: npt.NDArray[np.float64] | None = None
) -> QWeights:
    """Symmetric int8 in [-limit, limit], one scale per output channel, none below ``floor``.

    A channel of zeros gets the scale 1, or its floor if that is larger.

    Raises:
        QuantizationError: if a channel's largest weight is too small for a normal float32 scale.
    """
    largest = _largest(weight)
    exact = np.where(largest > 0, largest / limit, 1.0)
    scales = (exact if floor is None else np.maximum(exact, floor)).astype(np.float32)
    if (scales < SMALLEST_SCALE).any():
        raise QuantizationError(
            f"{node.describe()}: the weights of channel {int(scales.argmin())} are too small to be quantized",
            why=f"the largest is {largest[scales.argmin()]:.1e}",
            hint="set them to 0, or scale the layer up",
        )
    column = scales.reshape(-1, *(1,) * (weight.ndim - 1))
    integers = np.clip(np.rint(weight / column), -limit, limit).astype(np.int8)
    return QWeights(integers, scales)


def quantize_whole(node: Node, weight: Float, limit: int = WEIGHT_MAX, floor: float = 0.0) -> QWeights:
    """Symmetric int8 in [-limit, limit] with one scale, repeated for all output channels."""
    flat = quantize_weights(node, weight.reshape(1, -1), limit, np.array([floor]))
    return QWeights(flat.integers.reshape(weight.shape), np.repeat(flat.scales, len(weight)))


def _quantize_bias(
    node: Node, bias: Float | None, activations: Mapping[ValueName, QParams], weights: QWeights
) -> npt.NDArray[np.int32]:
    x, y = activations[_weighted(node).x].scale, activations[node.name].scale
    with np.errstate(under="ignore", over="ignore"):
        multipliers = (x * weights.scales) / y
    if not (multipliers < MULTIPLIERS[1]).all():
        worst = int(np.argmax(multipliers))
        raise QuantizationError(
            f"{node.describe()}: channel {worst} cannot be requantized",
            why=f"its accumulator's scale is {multipliers[worst]:.3g} times the output's, and runtimes take less than"
            f" {MULTIPLIERS[1]:g}",
            hint="look at the layer's range on the calibration data: it is tiny compared with its inputs and weights",
        )
    real = np.zeros(len(weights.scales))
    if bias is not None:
        real = np.rint(bias.astype(np.float64) / (weights.scales.astype(np.float64) * float(x)))
    reach = np.abs(weights.integers.reshape(len(real), -1).astype(np.int64)).sum(axis=1) * 255
    worst = int(np.argmax(np.abs(real) + reach))
    if abs(real[worst]) + reach[worst] > INT32_MAX:
        raise QuantizationError(
            f"{node.describe()}: channel {worst} does not fit an int32 accumulator",
            why=f"its bias is {real[worst]:.3g} and its products add up to {reach[worst]:.3g}",
            hint='a smaller layer, or a recipe with precision = "float" for this one',
        )
    return real.astype(np.int32)
