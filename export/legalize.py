"""Rewrites that more than one format needs. All of them keep the graph's meaning, so the golden executor can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecnn.graph.graph import Array, Graph, Node
from edgecnn.graph.ops import AvgPool2d, Mul, Pad, ValueName
from edgecnn.graph.rewrite import Rewriter, rewrite
from edgecnn.graph.shapes import Padding

LOWEST = float(np.finfo(np.float32).min)
"""What padding counts as to a maximum."""


def average_divisors(graph: Graph) -> Graph:
    """Average over whole windows, and correct by a factor where torch divides by something else.

    For an average pooling with a divisor of its own, or one that counts padding and has a ``ceil_mode`` overhang (which
    is never counted): a padding with 0, a pooling without padding, and where the factor is not 1 a multiplication by
    ``cells / divisor`` for each place. Does not apply to poolings that count no padding (the overhang is just more
    padding to them) nor to those without overhang.
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
    """Any average pooling: padding with 0, a pooling of whole windows, and a factor where that is not it."""
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


def divisor_factor(pool: AvgPool2d, image: tuple[int, ...], result: tuple[int, ...]) -> Array:
    """``cells / divisor`` for each place of the result, (1, 1, rows, columns); (1, 1, 1, 1) where they are alike."""
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
