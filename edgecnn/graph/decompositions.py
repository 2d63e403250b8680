"""Rewrites that more than one format needs. None changes what the graph computes; the golden executor checks that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Abs,
    Add,
    AvgPool2d,
    Gather,
    Log,
    Maximum,
    MaxPool2d,
    Mul,
    Pad,
    Relu,
    ResizeBilinear,
    Sigmoid,
    Slice,
    Softplus,
    Sub,
    ValueName,
)
from edgecnn.graph.rewrite import Rewriter, rewrite
from edgecnn.graph.shapes import Padding, Shape
from edgecnn.types import FloatArray

LOWEST = float(np.finfo(np.float32).min)
"""The value of padded cells in max pooling."""


def average_divisors(graph: Graph) -> Graph:
    """Average over whole windows, and correct by a factor where torch divides by another number.

    Applies to average pooling with its own divisor, or with counted padding and a ``ceil_mode`` overhang (which is
    never counted). It becomes a padding with 0, a pooling without padding, and, where the factor is not 1, a
    multiplication by ``cells / divisor`` for each place. Where padding is not counted, the overhang becomes padding.
    Does not apply to pooling without divisor and overhang.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case AvgPool2d(divisor=None, overhang=(0, 0)):
                return None
            case AvgPool2d(divisor=None, count_padding=False) as pool:
                return r.emit(replace(pool, padding=pool.reach, overhang=(0, 0)), node)
            case AvgPool2d() as pool:
                return corrected_average(r, node, pool)
        return None

    return rewrite(graph, step)


def corrected_average(r: Rewriter, node: Node, pool: AvgPool2d) -> ValueName:
    """Write any average pooling as padding with 0, a pooling of whole windows, and a factor where one is needed."""
    x = pad_image(r, node, pool.x, pool.reach, 0.0)
    factor = divisor_factor(pool, r.shape(pool.x)[2:], node.shape[2:])
    whole = AvgPool2d(x=x, kernel=pool.kernel, stride=pool.stride)
    if np.all(factor == 1):
        return r.emit(whole, node)
    pooled = r.emit(whole, node, "pooled")
    return r.emit(Mul(x=pooled, y=r.add_constant(f"{node.name}.factor", factor)), node)


def pad_image(r: Rewriter, node: Node, x: ValueName, padding: Padding, value: float) -> ValueName:
    """The image with rows and columns of ``value`` around it; the image itself where there are none."""
    if not any(padding):
        return x
    return r.emit(Pad(x=x, pads=((0, 0), (0, 0), padding.rows, padding.columns), value=value), node, "padded")


def divisor_factor(pool: AvgPool2d, image: tuple[int, ...], result: tuple[int, ...]) -> FloatArray:
    """``cells / divisor`` for each place of the result, (1, 1, rows, columns); (1, 1, 1, 1) where all are equal."""
    cells = pool.kernel[0] * pool.kernel[1]
    if pool.divisor is not None:
        return np.full((1, 1, 1, 1), cells / pool.divisor, np.float32)
    counts = []
    for axis, (before, after) in enumerate((pool.padding.rows, pool.padding.columns)):
        starts = np.arange(result[axis]) * pool.stride[axis] - before
        low, high = (-before, image[axis] + after) if pool.count_padding else (0, image[axis])
        counts.append(np.minimum(starts + pool.kernel[axis], high) - np.maximum(starts, low))
    factor = np.asarray(cells / np.outer(*counts), np.float32)[None, None]
    return factor[:, :, :1, :1] if np.all(factor == factor.flat[0]) else factor


def softplus_in_steps(graph: Graph) -> Graph:
    """Write every softplus as ``max(x, 0) - log(sigmoid(|x|))``, which neither overflows nor loses digits."""

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Softplus(x=x):
                gate = r.emit(Sigmoid(x=r.emit(Abs(x=x), node, "magnitude")), node, "gate")
                log = r.emit(Log(x=gate), node, "log")
                return r.emit(Sub(x=r.emit(Relu(x=x), node, "positive"), y=log), node)
        return None

    return rewrite(graph, step)


def blend_unevenly(graph: Graph) -> Graph:
    """Write bilinear resizing with explicit factors as picking and blending, axis by axis.

    File formats derive the factors from the sizes. Does not apply where torch's factors equal those.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case ResizeBilinear(x=x, align_corners=False) as op if _is_uneven(op, r.shape(x)):
                rows = _blend(r, node, op, x, 0, "rows")
                return _blend(r, node, op, rows, 1, "")
        return None

    return rewrite(graph, step)


def _is_uneven(op: ResizeBilinear, shape: Shape) -> bool:
    if op.factors is None:
        return False
    sides = zip(op.factors, shape[2:], op.to, strict=True)
    return any(abs(factor * size / to - 1) > 1e-6 for factor, size, to in sides)


def _blend(r: Rewriter, node: Node, op: ResizeBilinear, x: ValueName, axis: int, suffix: str) -> ValueName:
    pairs = op.blend(r.shape(x)[2 + axis], axis)
    column = (-1, 1) if axis == 0 else (-1,)
    shares = np.array([share for _, _, share in pairs]).reshape(column)
    parts = []
    for which, share in ((0, 1 - shares), (1, shares)):
        name = f"{'rows' if axis == 0 else 'columns'}{which}"
        picked = r.emit(Gather(x=x, axis=2 + axis, indices=tuple(int(pair[which]) for pair in pairs)), node, name)
        constant = r.add_constant(f"{node.name}.{name}.share", share)
        parts.append(r.emit(Mul(x=picked, y=constant), node, f"{name}.shared"))
    return r.emit(Add(x=parts[0], y=parts[1]), node, suffix)


def dilated_maximum(graph: Graph) -> Graph:
    """Write max pooling with dilation as maxima of slices, rows first, then columns: TFLite has no dilated pooling.

    Does not apply without dilation.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case MaxPool2d(x=x, dilation=dilation) as pool if dilation != (1, 1):
                padded = pad_image(r, node, x, pool.padding, LOWEST)
                rows = _largest_of(r, node, pool, padded, 0, "rows")
                return _largest_of(r, node, pool, rows, 1, "")
        return None

    return rewrite(graph, step)


def _largest_of(r: Rewriter, node: Node, pool: MaxPool2d, x: ValueName, axis: int, suffix: str) -> ValueName:
    count, stride, dilation = node.shape[2 + axis], pool.stride[axis], pool.dilation[axis]
    kernel, result = pool.kernel[axis], None
    for i in range(kernel):
        start = i * dilation
        stop = start + (count - 1) * stride + 1
        only = kernel == 1
        part = Slice(x=x, axis=2 + axis, start=start, stop=stop, step=stride)
        shifted = r.emit(part, node, suffix if only else f"{suffix or 'columns'}{i}")
        last = i == kernel - 1
        if result is None:
            result = shifted
        else:
            step_name = suffix if last else f"{suffix or 'columns'}{i}.largest"
            result = r.emit(Maximum(x=result, y=shifted), node, step_name)
    assert result is not None
    return result
