"""Converters of pooling, adaptive pooling, and reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgecnn.capture.converters.base import (
    Args,
    Builder,
    Converter,
    Unsupported,
    as_image,
    as_signal,
    axes_of,
    axis_of,
    batched,
    times,
)
from edgecnn.capture.pooling_windows import adaptive_windows, pooled_padding
from edgecnn.graph import ops
from edgecnn.graph.ops import Op, Pair, ValueName
from edgecnn.graph.shapes import Padding

Pool = Callable[[ValueName, Pair], Op]


def max_pool2d(b: Builder, a: Args) -> ValueName:
    """Convert max_pool2d."""
    x = batched(b, a["self"], 4, "max pooling")
    pairs = (a.pair("kernel_size"), a.pair("stride", "kernel_size"), a.pair("padding"), a.pair("dilation"))
    return b.add(_max_pool(b, a, x, *pairs))


def max_pool1d(b: Builder, a: Args) -> ValueName:
    """Convert max_pool1d to pooling of an image of height 1."""
    x = as_image(b, a["self"], "max pooling")
    stride, padding = a.width("stride", "kernel_size"), a.width("padding", height=0)
    return as_signal(b, b.add(_max_pool(b, a, x, a.width("kernel_size"), stride, padding, a.width("dilation")), "pool"))


def _max_pool(b: Builder, a: Args, x: ValueName, kernel: Pair, stride: Pair, pads: Pair, dilation: Pair) -> Op:
    padding, overhang = pooled_padding(b.shape(x), kernel, stride, pads, dilation, ceil=a["ceil_mode"])
    top, bottom, left, right = padding
    padding = Padding(top, bottom + overhang[0], left, right + overhang[1])
    return ops.MaxPool2d(x=x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def avg_pool2d(b: Builder, a: Args) -> ValueName:
    """Convert avg_pool2d."""
    x = batched(b, a["self"], 4, "average pooling")
    return b.add(_avg_pool(b, a, x, a.pair("kernel_size"), a.pair("stride", "kernel_size"), a.pair("padding")))


def avg_pool1d(b: Builder, a: Args) -> ValueName:
    """Convert avg_pool1d to pooling of an image of height 1."""
    x = as_image(b, a["self"], "average pooling")
    stride, padding = a.width("stride", "kernel_size"), a.width("padding", height=0)
    return as_signal(b, b.add(_avg_pool(b, a, x, a.width("kernel_size"), stride, padding), "pool"))


def _avg_pool(b: Builder, a: Args, x: ValueName, kernel: Pair, stride: Pair, pads: Pair) -> Op:
    padding, overhang = pooled_padding(b.shape(x), kernel, stride, pads, (1, 1), ceil=a["ceil_mode"])
    return ops.AvgPool2d(
        x=x,
        kernel=kernel,
        stride=stride,
        padding=padding,
        overhang=overhang,
        count_padding=a["count_include_pad"],
        divisor=a.get("divisor_override"),
    )


def adaptive(pool: Pool) -> Converter:
    """Make a converter of adaptive pooling: plain pooling if windows are equal, else a slice and a pool for each."""

    def convert(b: Builder, a: Args) -> ValueName:
        x = batched(b, a["self"], 4, "adaptive pooling")
        sizes = [n if o is None else int(o) for n, o in zip(b.shape(x)[2:], a["output_size"], strict=True)]
        return _pool_adaptively(b, pool, x, (sizes[0], sizes[1]))

    return convert


def adaptive1d(pool: Pool) -> Converter:
    """Make a converter of adaptive pooling of signals, as images of height 1."""

    def convert(b: Builder, a: Args) -> ValueName:
        x = as_image(b, a["self"], "adaptive pooling")
        return as_signal(b, _pool_adaptively(b, pool, x, a.width("output_size"), "pool"))

    return convert


def _pool_adaptively(b: Builder, pool: Pool, x: ValueName, sizes: Pair, suffix: str = "") -> ValueName:
    height, width = b.shape(x)[2:]
    if height % sizes[0] == 0 and width % sizes[1] == 0:
        return b.add(pool(x, (height // sizes[0], width // sizes[1])), suffix)
    for axis, count in ((2, sizes[0]), (3, sizes[1])):
        x = _pool_unevenly(b, pool, x, axis, count, suffix)
    return x


def _pool_unevenly(b: Builder, pool: Pool, x: ValueName, axis: int, count: int, suffix: str) -> ValueName:
    last = axis == 3
    pooled = []
    for start, stop in adaptive_windows(b.shape(x)[axis], count):
        part = b.add(ops.Slice(x=x, axis=axis, start=start, stop=stop), "window")
        kernel = (1, stop - start) if last else (stop - start, 1)
        pooled.append(b.add(pool(part, kernel), "pooled"))
    if len(pooled) == 1:
        return pooled[0]
    return b.add(ops.Concat(xs=tuple(pooled), axis=axis), suffix if last else "rows")


def largest(x: ValueName, kernel: Pair) -> Op:
    """Max pooling by windows that do not overlap."""
    return ops.MaxPool2d(x=x, kernel=kernel, stride=kernel)


def average(x: ValueName, kernel: Pair) -> Op:
    """Average pooling by windows that do not overlap."""
    return ops.AvgPool2d(x=x, kernel=kernel, stride=kernel)


def reduction(op: type[ops.Reduction]) -> Converter:
    """Make a converter of a reduction over the given axes, or over all."""

    def convert(b: Builder, a: Args) -> ValueName:
        if a.get("dtype") is not None and str(a["dtype"]) != "torch.float32":
            raise Unsupported(f"a reduction that gives {a['dtype']} is not supported", "float32")
        axes = axes_of(a.get("dim"), len(b.shape(a["self"])))
        return b.add(op(x=a["self"], axes=axes, keepdim=bool(a.get("keepdim")))) if axes else a.tensor()

    return convert


def extreme_of_axis(op: type[ops.Amax | ops.Amin]) -> Converter:
    """Make a converter of the extreme values along an axis; maxima also get their positions, which may stay unread."""

    def convert(b: Builder, a: Args) -> ValueName | tuple[ValueName, ...]:
        axis, keep = axis_of(a["dim"], len(b.shape(a["self"]))), bool(a["keepdim"])
        values = b.add(op(x=a["self"], axes=(axis,), keepdim=keep))
        if op is ops.Amin:
            return values
        return values, b.add(ops.ArgMax(x=a["self"], axis=axis, keepdim=keep), "indices")

    return convert


def argmax(b: Builder, a: Args) -> ValueName:
    """Convert argmax along one axis."""
    x = a["self"]
    if a["dim"] is None:
        raise Unsupported("argmax over all axes mixes the samples of a batch", "argmax(dim=1) of flattened scores")
    return b.add(ops.ArgMax(x=x, axis=axis_of(a["dim"], len(b.shape(x))), keepdim=a["keepdim"]))


def variance(*, root: bool) -> Converter:
    """Make a converter of the variance: the mean squared deviation from the mean, times ``n / (n - correction)``."""

    def convert(b: Builder, a: Args) -> ValueName:
        x, shape = a["self"], b.shape(a["self"])
        axes = axes_of(a.get("dim"), len(shape))
        correction = a["correction"] if "correction" in a else int(a.get("unbiased", True))
        count = math.prod(shape[i] for i in axes)
        rest = count - (1 if correction is None else correction)
        if rest <= 0:
            raise Unsupported(f"the variance of {count} elements with correction {correction} is not defined")
        centered = b.add(ops.Sub(x=x, y=b.add(ops.Mean(x=x, axes=axes, keepdim=True), "mean")), "centered")
        squares = b.add(ops.Mul(x=centered, y=centered), "squares")
        mean = b.add(ops.Mean(x=squares, axes=axes, keepdim=bool(a.get("keepdim"))), "spread")
        value = times(b, mean, count / rest, "variance")
        return b.add(ops.Sqrt(x=value)) if root else value

    return convert


def vector_norm(b: Builder, a: Args) -> ValueName:
    """Convert norms, ``sum(|x|^ord)^(1/ord)``, of the orders 1, 2 and infinity."""
    x, given = a["self"], a["ord"] if "ord" in a else a.get("p")
    order = 2.0 if given is None else float(given)
    axes, keep = axes_of(a.get("dim"), len(b.shape(x))), bool(a.get("keepdim"))
    if order == 2:
        total = b.add(ops.Sum(x=b.add(ops.Mul(x=x, y=x), "squares"), axes=axes, keepdim=keep), "sum")
        return b.add(ops.Sqrt(x=total))
    kinds: dict[float, type[ops.Sum | ops.Amax]] = {1.0: ops.Sum, math.inf: ops.Amax}
    kind = kinds.get(order)
    if kind is None:
        raise Unsupported(f"a norm of order {order:g} is not supported", "the order 1, 2 or infinity")
    return b.add(kind(x=b.add(ops.Abs(x=x), "magnitudes"), axes=axes, keepdim=keep))
