"""Transposed convolution as ordinary convolutions: one per phase within a stride, their results interleaved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Concat,
    Conv2d,
    ConvTranspose2d,
    DepthToSpace,
    Pair,
    Reshape,
    Slice,
    Transpose,
    ValueName,
)
from edgecnn.graph.rewrite import Rewriter, rewrite
from edgecnn.graph.shapes import Padding, window_extent
from edgecnn.types import FloatArray


@dataclass(frozen=True, slots=True)
class Phases:
    """One axis of a transposed convolution, as convolutions with stride 1.

    Element ``t = stride * u + phase + shift`` of the full result is the convolution for that phase at place ``u``. Its
    taps are the kernel's elements ``phase + shift + stride * m`` for ``m`` from ``first`` to ``last``.

    Attributes:
        stride: The number of phases.
        shift: The offset at which phase 0 begins.
        first: Smallest ``m``.
        last: Largest ``m``.
        before: Padding before the first element.
        after: Padding after the last element.
        start: Number of elements to cut off at the start of the interleaved result.
    """

    stride: int
    shift: int
    first: int
    last: int
    before: int
    after: int
    start: int

    @property
    def taps(self) -> int:
        """The length of each phase's kernel."""
        return self.last - self.first + 1

    def kernel(self, full: FloatArray, phase: int, axis: int) -> FloatArray:
        """The taps of a phase along an axis, in the order in which a convolution reads them."""
        length = full.shape[axis]
        places = [phase + self.shift + self.stride * m for m in range(self.last, self.first - 1, -1)]
        empty = np.zeros_like(np.take(full, 0, axis=axis))
        parts = [np.take(full, p, axis=axis) if 0 <= p < length else empty for p in places]
        return np.stack(parts, axis=axis)


def phases(size: int, extent: int, stride: int, padding: int, count: int) -> Phases:
    """The phases of an axis with the fewest taps; among equals, those that need the smallest cut."""
    return min((_shifted(size, extent, stride, padding, count, s) for s in range(stride)), key=_cost)


def _cost(p: Phases) -> tuple[int, int]:
    return p.taps, p.start


def _shifted(size: int, extent: int, stride: int, padding: int, count: int, shift: int) -> Phases:
    first = min(math.ceil((-r - shift) / stride) for r in range(stride))
    last = max((extent - 1 - r - shift) // stride for r in range(stride))
    begin, end = (padding - shift) // stride, (padding + count - 1 - shift) // stride
    before = max(last - begin, 0)
    after = max(end - first - (size - 1), 0)
    start = padding - (stride * (last - before) + shift)
    return Phases(stride, shift, first, last, before, after, start)


def transposed_convolution(graph: Graph) -> Graph:
    """Write every transposed convolution as convolutions with stride 1 whose results are interleaved.

    Each element of the result is the same sum of products as before. No other form works everywhere: TFLite's
    TRANSPOSE_CONV has no groups and no dilation, and fixes the batch; ONNX Runtime has no integer ConvTranspose.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case ConvTranspose2d() as op:
                return compose_transposed(r, node, op)
        return None

    return rewrite(graph, step)


def compose_transposed(r: Rewriter, node: Node, op: ConvTranspose2d) -> ValueName:
    """A transposed convolution as :func:`transposed_convolution` writes it."""
    weight = r.constant(op.weight)
    assert weight is not None
    image, kernel = r.shape(op.x)[2:], weight.shape[2:]
    rows, columns = (
        phases(image[i], window_extent(kernel[i], op.dilation[i]), op.stride[i], op.padding[i], node.shape[2 + i])
        for i in (0, 1)
    )
    full = _turned(_spread(weight, op.dilation), op.groups)
    padding = Padding(rows.before, rows.after, columns.before, columns.after)
    cut = any((rows.start, columns.start)) or _size(image, rows, columns) != node.shape[2:]
    conv = _Phased(r, node, op, full, padding, rows, columns, cut)
    x = conv.compose()
    for axis, (p, count) in enumerate(((rows, node.shape[2]), (columns, node.shape[3])), start=2):
        if r.shape(x)[axis] != count:
            last = axis == 3 or r.shape(x)[3] == node.shape[3]
            cut_off = Slice(x=x, axis=axis, start=p.start, stop=p.start + count)
            x = r.emit(cut_off, node, "" if last else "rows")
    return x


def _size(image: tuple[int, ...], rows: Phases, columns: Phases) -> Pair:
    made = [(n + p.before + p.after - p.taps + 1) * p.stride for n, p in zip(image, (rows, columns), strict=True)]
    return made[0], made[1]


def _spread(weight: FloatArray, dilation: Pair) -> FloatArray:
    """A kernel with explicit zeros in the gaps of its dilation."""
    if dilation == (1, 1):
        return weight
    height, width = (window_extent(k, d) for k, d in zip(weight.shape[2:], dilation, strict=True))
    full = np.zeros((*weight.shape[:2], height, width), np.float32)
    full[:, :, :: dilation[0], :: dilation[1]] = weight
    return full


def _turned(weight: FloatArray, groups: int) -> FloatArray:
    """Weights of a transposed convolution (in, out / groups, ...) in a convolution's layout (out, in / groups, ...)."""
    per_in, per_out = weight.shape[0] // groups, weight.shape[1]
    parts = weight.reshape(groups, per_in, per_out, *weight.shape[2:]).swapaxes(1, 2)
    return parts.reshape(groups * per_out, per_in, *weight.shape[2:])


class _Phased:
    """The convolutions of one node, and the steps that interleave their results."""

    def __init__(
        self,
        r: Rewriter,
        node: Node,
        op: ConvTranspose2d,
        full: FloatArray,
        padding: Padding,
        rows: Phases,
        columns: Phases,
        cut: bool,
    ) -> None:
        self.r, self.node, self.op, self.full, self.padding = r, node, op, full, padding
        self.rows, self.columns, self.last = rows, columns, "wide" if cut else ""
        self.bias = r.constant(op.bias)

    def compose(self) -> ValueName:
        """The full result, before superfluous rows and columns are cut off."""
        if self.rows.stride == self.columns.stride == 1:
            return self.convolve([(0, 0)], self.last)
        if self.rows.stride == self.columns.stride:
            places = [(i, j) for i in range(self.rows.stride) for j in range(self.columns.stride)]
            depth = self.channels(places, "phases")
            return self.r.emit(DepthToSpace(x=depth, block=self.rows.stride), self.node, self.last)
        lines = [self.line(i) for i in range(self.rows.stride)]
        n, c, height, width = self.r.shape(lines[0])
        if len(lines) == 1:
            return self.r.emit(Reshape(x=lines[0], to=(n, c, height, width)), self.node, self.last)
        beside = self.r.emit(Concat(xs=tuple(lines), axis=3), self.node, "beside")
        return self.r.emit(Reshape(x=beside, to=(n, c, height * len(lines), width)), self.node, self.last)

    def line(self, phase: int) -> ValueName:
        """All columns of one row phase: (N, C, rows, columns * stride)."""
        stride = self.columns.stride
        depth = self.channels([(phase, j) for j in range(stride)], f"row{phase}")
        if stride == 1:
            return depth
        n, c, height, width = self.r.shape(depth)
        c //= stride
        parts = self.r.emit(Reshape(x=depth, to=(n, stride, c, height, width)), self.node, f"row{phase}.parts")
        turned = self.r.emit(Transpose(x=parts, order=(0, 2, 3, 4, 1)), self.node, f"row{phase}.turned")
        return self.r.emit(Reshape(x=turned, to=(n, c, height, width * stride)), self.node, f"row{phase}.line")

    def channels(self, places: list[Pair], suffix: str) -> ValueName:
        """The phases as consecutive channels: by one convolution, or by one per phase where there are groups."""
        if self.op.groups == 1:
            return self.convolve(places, suffix)
        parts = [self.convolve([place], f"{suffix}.{i}") for i, place in enumerate(places)]
        return parts[0] if len(parts) == 1 else self.r.emit(Concat(xs=tuple(parts), axis=1), self.node, suffix)

    def convolve(self, places: list[Pair], suffix: str) -> ValueName:
        weight = np.concatenate([self.kernel(i, j) for i, j in places])
        bias = None if self.bias is None else np.tile(self.bias, len(places))
        op = Conv2d(
            x=self.op.x,
            weight=self.r.add_constant(self.name(suffix, "weight"), weight),
            bias=None if bias is None else self.r.add_constant(self.name(suffix, "bias"), bias),
            padding=self.padding,
            groups=self.op.groups,
            activation=self.op.activation,
        )
        return self.r.emit(op, self.node, suffix)

    def kernel(self, i: int, j: int) -> npt.NDArray[np.float32]:
        return self.columns.kernel(self.rows.kernel(self.full, i, 2), j, 3)

    def name(self, suffix: str, what: str) -> str:
        return ".".join(part for part in (self.node.name, suffix, what) if part)
