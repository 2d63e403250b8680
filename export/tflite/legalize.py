"""Rewrites that bring a graph into a form that TFLite can express, still in torch's layout and with its meaning."""

from __future__ import annotations

import math
from dataclasses import replace

from edgecnn.export.legal_programs import SameStorage
from edgecnn.export.tflite.picking import pick_by_slices
from edgecnn.graph.decompositions import (
    LOWEST,
    average_divisors,
    blend_unevenly,
    corrected_average,
    dilated_maximum,
    pad_image,
    softplus_in_steps,
)
from edgecnn.graph.fold_channel_order import blocks_first, fold_channel_order
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Abs,
    Activation,
    AvgPool2d,
    Clamp,
    Concat,
    Conv2d,
    MaxPool2d,
    Pair,
    Relu,
    Sigmoid,
    Slice,
    ValueName,
)
from edgecnn.graph.rewrite import Rewriter, Rule, apply_rules, rewrite
from edgecnn.graph.shapes import Padding, padding_used, window_extent
from edgecnn.graph.transposed_convolution import transposed_convolution
from edgecnn.graph.verify import verify


def padding_scheme(
    image: tuple[int, ...], result: tuple[int, ...], kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> str | None:
    """``VALID`` or ``SAME`` where TFLite's rule gives the same windows as torch's padding, else None.

    SAME (tensorflow/lite/kernels/padding.h): ``ceil(size / stride)`` windows, the missing cells split between both
    sides, the odd one after. VALID: no cell before, none needed after. No window reads
    padding after the last one, which does not count.
    """
    sides = (padding.rows, padding.columns)
    axes = list(zip(image, result, kernel, stride, dilation, (s[0] for s in sides), strict=True))
    if all(before == 0 and not padding_used(n, k, s, d, 0, count) for n, count, k, s, d, before in axes):
        return "VALID"
    return "SAME" if all(_is_same(*axis) for axis in axes) else None


def _is_same(size: int, count: int, kernel: int, stride: int, dilation: int, before: int) -> bool:
    lacking = max((count - 1) * stride + window_extent(kernel, dilation) - size, 0)
    return count == math.ceil(size / stride) and before == lacking // 2


def explicit_padding(graph: Graph) -> Graph:
    """Pad the image first where both SAME and VALID of TFLite differ from torch's padding.

    Convolutions and averages are padded with 0, and so are maxima of values that are never negative, since XNNPACK
    takes no other padding; other maxima with the lowest value. Only rows and columns that a window reads are added.
    Does not apply where a scheme fits; an average that counts its padding fits VALID only.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Conv2d(x=x, stride=stride, padding=padding, dilation=dilation) as op:
                kernel, value = _pair(r.shape(op.weight)[2:]), 0.0
            case MaxPool2d(x=x, kernel=kernel, stride=stride, padding=padding, dilation=dilation) as op:
                value = 0.0 if _is_never_negative(r, x) else LOWEST
            case AvgPool2d(x=x, kernel=kernel, stride=stride, padding=padding) as op:
                dilation, value = (1, 1), 0.0
                if not op.count_padding and _scheme(r, node, x, kernel, stride, dilation, padding) is None:
                    return corrected_average(r, node, op)
            case _:
                return None
        scheme = _scheme(r, node, x, kernel, stride, dilation, padding)
        counts_padding = isinstance(op, AvgPool2d) and op.count_padding
        if scheme == "VALID" or (scheme == "SAME" and not counts_padding):
            return None
        used = _used(r.shape(x)[2:], node.shape[2:], kernel, stride, dilation, padding)
        padded = pad_image(r, node, x, used, value)
        return r.emit(replace(op, x=padded, padding=Padding()), node)

    return rewrite(graph, step)


def _is_never_negative(r: Rewriter, value: ValueName) -> bool:
    while (node := r.producer(value)) is not None:
        match node.op:
            case Relu() | Sigmoid() | Abs():
                return True
            case Clamp(low=low):
                return low >= 0
            case MaxPool2d(x=x) | AvgPool2d(x=x) | Slice(x=x):
                value = x
            case _:
                return getattr(node.op, "activation", None) in (Activation.RELU, Activation.RELU6)
    return False


def _pair(lengths: tuple[int, ...]) -> Pair:
    return lengths[0], lengths[1]


def _scheme(
    r: Rewriter, node: Node, x: ValueName, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> str | None:
    return padding_scheme(r.shape(x)[2:], node.shape[2:], kernel, stride, dilation, padding)


def _used(
    image: tuple[int, ...], result: tuple[int, ...], kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> Padding:
    """The padding without the cells that no window reads."""
    after = [
        padding_used(n, k, s, d, before, count)
        for n, count, k, s, d, before in zip(
            image, result, kernel, stride, dilation, (padding.top, padding.left), strict=True
        )
    ]
    return Padding(padding.top, after[0], padding.left, after[1])


def grouped_convolution(graph: Graph) -> Graph:
    """Split a convolution of several groups, neither one nor depthwise, into one per group and concatenate the results.

    tflite-runtime and TFLite Micro refuse grouped CONV_2D, so that the split form runs everywhere. Does not apply to
    depthwise convolutions, which have an operator of their own.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Conv2d(x=x, groups=groups) as conv if groups > 1 and groups != r.shape(x)[1]:
                return _split(r, node, conv)
        return None

    return rewrite(graph, step)


def _split(r: Rewriter, node: Node, conv: Conv2d) -> ValueName:
    weight, bias = r.constant(conv.weight), r.constant(conv.bias)
    assert weight is not None
    per_in, per_out = weight.shape[1], weight.shape[0] // conv.groups
    parts = []
    for g in range(conv.groups):
        own = slice(g * per_out, (g + 1) * per_out)
        part = r.emit(Slice(x=conv.x, axis=1, start=g * per_in, stop=(g + 1) * per_in), node, f"in{g}")
        op = replace(
            conv,
            x=part,
            weight=r.add_constant(f"{conv.weight}.{g}", weight[own]),
            bias=None if bias is None else r.add_constant(f"{conv.bias}.{g}", bias[own]),
            groups=1,
        )
        parts.append(r.emit(op, node, f"group{g}"))
    return r.emit(Concat(xs=tuple(parts), axis=1), node)


RULES: tuple[Rule, ...] = (
    transposed_convolution,
    blocks_first,
    fold_channel_order,
    softplus_in_steps,
    blend_unevenly,
    dilated_maximum,
    average_divisors,
    explicit_padding,
    grouped_convolution,
)


def legalize(graph: Graph, same_storage: SameStorage | None = None) -> Graph:
    """Apply all rewrites above in their order, then write choices of channels as slices; verify the graph after each.

    Args:
        graph: The graph.
        same_storage: Whether two of its values are stored with the same type and parameters; None if all are.
    """
    legal = apply_rules(graph, RULES)
    return verify(pick_by_slices(legal, same_storage or (lambda _a, _b: True)), after=pick_by_slices.__name__)
