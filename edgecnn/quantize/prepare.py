"""Preparation for quantization: rewrite a graph to operators that every runtime computes in the same way."""

from __future__ import annotations

import math

import numpy as np

from edgecnn.graph.decompositions import blend_unevenly, divisor_factor, softplus_in_steps
from edgecnn.graph.fold_channel_order import blocks_first, fold_channel_order
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import AvgPool2d, Conv2d, Div, Mean, Mul, Slice, Sum, ValueName
from edgecnn.graph.rewrite import Rewriter, Rule, apply_rules, rewrite
from edgecnn.graph.transposed_convolution import transposed_convolution
from edgecnn.program.qparams import SMALLEST_SCALE


def average_of_images(graph: Graph) -> Graph:
    """Write an average pooling with one window as a mean over the image, or over the part that the window covers.

    TFLite's AVERAGE_POOL_2D rounds integers that include their zero point half away from zero; MEAN and ONNX Runtime's
    GlobalAveragePool round half to even, and their results may have other parameters than their inputs. Does not apply
    where there are more windows, padding, or another divisor.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case AvgPool2d(x=x, kernel=kernel, divisor=None) as pool if node.shape[2:] == (1, 1) and not any(
                pool.reach
            ):
                for axis, size in zip((2, 3), kernel, strict=True):
                    if size < r.shape(x)[axis]:
                        x = r.emit(Slice(x=x, axis=axis, start=0, stop=size), node, "window")
                return r.emit(Mean(x=x, axes=(2, 3), keepdim=True), node)
        return None

    return rewrite(graph, step)


def average_of_windows(graph: Graph) -> Graph:
    """Write an average pooling as a depthwise convolution with equal weights.

    Equal weights are exact in int8, and all runtimes round the accumulator of a convolution in the same way. Pooling
    kernels differ: TFLite's rounds half away from zero, ONNX Runtime's sums floats. Where windows have different
    divisors, because padding is not counted, a multiplication by ``cells / divisor`` for each place follows.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case AvgPool2d(x=x, kernel=kernel) as pool:
                channels = r.shape(x)[1]
                factor = divisor_factor(pool, r.shape(x)[2:], node.shape[2:])
                even = factor.size == 1
                share = (float(factor.flat[0]) if even else 1.0) / (kernel[0] * kernel[1])
                weight = r.add_constant(f"{node.name}.weight", np.full((channels, 1, *kernel), share, np.float32))
                conv = Conv2d(x=x, weight=weight, bias=None, stride=pool.stride, padding=pool.reach, groups=channels)
                if even:
                    return r.emit(conv, node)
                summed = r.emit(conv, node, "pooled")
                return r.emit(Mul(x=summed, y=r.add_constant(f"{node.name}.factor", factor)), node)
        return None

    return rewrite(graph, step)


def division_by_constants(graph: Graph) -> Graph:
    """Multiply by the reciprocal of a constant divisor. Does not apply where a reciprocal leaves float32's range."""

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Div(x=x, y=y, activation=activation) if (divisor := r.constant(y)) is not None:
                with np.errstate(divide="ignore", over="ignore"):
                    reciprocal = np.asarray(np.float32(1) / divisor)
                if np.isfinite(reciprocal).all() and (np.abs(reciprocal) >= SMALLEST_SCALE).all():
                    name = r.add_constant(f"{node.name}.reciprocal", reciprocal)
                    return r.emit(Mul(x=x, y=name, activation=activation), node)
        return None

    return rewrite(graph, step)


def sum_as_mean(graph: Graph) -> Graph:
    """Write every sum as a mean times the number of elements: means have exact kernels, sums do not."""

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Sum(x=x, axes=axes, keepdim=keepdim):
                count = math.prod(r.shape(x)[a] for a in axes)
                mean = r.emit(Mean(x=x, axes=axes, keepdim=keepdim), node, "mean")
                return r.emit(Mul(x=mean, y=r.add_constant(f"{node.name}.count", np.array(count))), node)
        return None

    return rewrite(graph, step)


RULES: tuple[Rule, ...] = (
    transposed_convolution,
    blocks_first,
    fold_channel_order,
    softplus_in_steps,
    blend_unevenly,
    sum_as_mean,
    average_of_images,
    average_of_windows,
    division_by_constants,
)


def prepare(graph: Graph) -> Graph:
    """Rewrite a graph so that all formats and runtimes can execute one integer program."""
    return apply_rules(graph, RULES)
