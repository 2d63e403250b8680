"""Converters of normalization: factor and summand for running statistics, single steps for those of the sample."""

from __future__ import annotations

import numpy as np

from edgecnn.capture.converters.base import Args, Builder, Unsupported, known
from edgecnn.graph import ops
from edgecnn.graph.ops import ValueName
from edgecnn.graph.shapes import Shape


def batch_norm(b: Builder, a: Args) -> ValueName:
    """Convert batch norm to a factor and a summand for each channel."""
    mean, variance = b.elements(a["running_mean"]), b.elements(a["running_var"])
    if a.get("training") or mean is None or variance is None:
        raise Unsupported(
            "batch norm takes its statistics from the batch, not from running averages",
            "track_running_stats=True, and a module in eval mode",
        )
    gain = 1.0 / np.sqrt(variance.astype(np.float64) + a["eps"])
    if a["weight"] is not None:
        gain = gain * known(b, a["weight"], "batch norm")
    shift = -mean * gain
    if a["bias"] is not None:
        shift = shift + known(b, a["bias"], "batch norm")
    column = (-1, *(1,) * (len(b.shape(a["input"])) - 2))
    scaled = b.add(ops.Mul(x=a["input"], y=b.constant(gain.reshape(column), "gain")), "scaled")
    return b.add(ops.Add(x=scaled, y=b.constant(shift.reshape(column), "shift")))


def instance_norm(b: Builder, a: Args) -> ValueName:
    """Convert instance norm: each channel by its mean and variance, or by running statistics if there are any."""
    if not a["use_input_stats"]:
        return batch_norm(b, a)
    shape = b.shape(a["input"])
    return _normalized(b, a, a["input"], tuple(range(2, len(shape))), a["eps"])


def layer_norm(b: Builder, a: Args) -> ValueName:
    """Convert layer norm, over the last axes of each sample."""
    rank = len(b.shape(a["input"]))
    axes = tuple(range(rank - len(a["normalized_shape"]), rank))
    return _normalized(b, a, a["input"], axes, a["eps"], per_channel=False)


def group_norm(b: Builder, a: Args) -> ValueName:
    """Convert group norm, over groups of channels of each sample.

    The mean of a group is the mean of its channels' means, so only one number per channel is reshaped.
    """
    shape, groups = b.shape(a["input"]), a["num_groups"]
    if groups == 1:
        return _normalized(b, a, a["input"], tuple(range(1, len(shape))), a["eps"])
    return _normalized(b, a, a["input"], tuple(range(2, len(shape))), a["eps"], groups=groups)


def rms_norm(b: Builder, a: Args) -> ValueName:
    """Convert RMS norm, by the mean square over the last axes of each sample."""
    x = a["input"]
    rank = len(b.shape(x))
    axes = tuple(range(rank - len(a["normalized_shape"]), rank))
    eps = float(np.finfo(np.float32).eps) if a["eps"] is None else a["eps"]
    return _scaled(b, a, x, _spread(b, x, axes, eps, 0), per_channel=False)


def _normalized(
    b: Builder, a: Args, x: ValueName, axes: tuple[int, ...], eps: float, *, groups: int = 0, per_channel: bool = True
) -> ValueName:
    if not axes:
        raise Unsupported("there is nothing to average over")
    mean = b.add(ops.Mean(x=x, axes=axes, keepdim=True), "mean")
    centered = b.add(ops.Sub(x=x, y=_over_groups(b, mean, groups, "mean")), "centered")
    return _scaled(b, a, centered, _spread(b, centered, axes, eps, groups), per_channel=per_channel)


def _spread(b: Builder, x: ValueName, axes: tuple[int, ...], eps: float, groups: int) -> ValueName:
    """``1 / sqrt(mean(x * x) + eps)``."""
    squares = b.add(ops.Mul(x=x, y=x), "squares")
    variance = b.add(ops.Mean(x=squares, axes=axes, keepdim=True), "variance")
    variance = _over_groups(b, variance, groups, "variance")
    shifted = b.add(ops.Add(x=variance, y=b.constant(np.array(eps, np.float64), "eps")), "shifted")
    return b.add(ops.Rsqrt(x=shifted), "spread")


def _over_groups(b: Builder, x: ValueName, groups: int, suffix: str) -> ValueName:
    """Replace a number per channel by the mean over the channels of its group."""
    if not groups:
        return x
    shape = b.shape(x)
    members = shape[1] // groups
    grouped = b.add(ops.Reshape(x=x, to=(shape[0], groups, members, 1)), f"{suffix}.grouped")
    mean = b.add(ops.Mean(x=grouped, axes=(2,), keepdim=True), f"{suffix}.of_groups")
    spread = b.add(ops.Gather(x=mean, axis=2, indices=(0,) * members), f"{suffix}.shared")
    return b.add(ops.Reshape(x=spread, to=shape), f"{suffix}.of_channels")


def _scaled(b: Builder, a: Args, x: ValueName, spread: ValueName, *, per_channel: bool) -> ValueName:
    """Multiply by the spread, then apply the layer's weight and bias."""
    steps: list[tuple[type[ops.Mul | ops.Add], ValueName, str]] = [(ops.Mul, spread, "normalized")]
    for key, op in (("weight", ops.Mul), ("bias", ops.Add)):
        if a.get(key) is not None:
            array = known(b, a[key], "normalization")
            column = _column(array.shape, len(b.shape(x)), per_channel=per_channel)
            steps.append((op, b.constant(array.reshape(column), f"{key}s"), f"with_{key}"))
    for i, (op, y, suffix) in enumerate(steps):
        x = b.add(op(x=x, y=y), suffix if i + 1 < len(steps) else "")
    return x


def _column(shape: Shape, rank: int, *, per_channel: bool) -> Shape:
    return (*shape, *(1,) * (rank - 2)) if per_channel else shape
