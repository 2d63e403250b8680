"""The operators of the graph: one frozen class each, with its meaning, its checks and its shape rule.

Layout is torch's: images are (N, C, H, W), convolution weights (out, in / groups, kernel height, kernel width). Axis 0
of every value is the batch and is 1 in a graph's shapes. Fields that name values are listed in ``VALUES``; weights are
values too, constants of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, get_args

from edgecnn.errors import GraphError
from edgecnn.graph.shapes import Padding, Shape, broadcast, window_count

ValueName = str
Pair = tuple[int, int]
NO_PADDING = Padding()


class Activation(StrEnum):
    """What an operator may apply to its own result: the set that TFLite can fuse."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that it lets through."""
        return {
            Activation.NONE: (-math.inf, math.inf),
            Activation.RELU: (0.0, math.inf),
            Activation.RELU6: (0.0, 6.0),
            Activation.RELU_N1_TO_1: (-1.0, 1.0),
        }[self]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise GraphError(message)


def _image(shape: Shape, what: str) -> Shape:
    _check(len(shape) == 4, f"{what} takes a value of rank 4 (N, C, H, W), not {shape}")
    return shape


def _windows(shape: Shape, what: str, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> Pair:
    _, _, height, width = _image(shape, what)
    rows = window_count(height, kernel[0], stride[0], dilation[0], padding.rows)
    columns = window_count(width, kernel[1], stride[1], dilation[1], padding.columns)
    _check(
        rows > 0 and columns > 0,
        f"{what}: kernel {kernel} with dilation {dilation} does not fit into an image of {height}x{width}"
        f" padded by {tuple(padding)}",
    )
    return rows, columns


def _positive(what: str, **pairs: Pair) -> None:
    for name, pair in pairs.items():
        _check(min(pair) > 0, f"{what}: {name} {pair} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d:
    """Cross-correlation of an image with ``weight``, plus ``bias``, then ``activation``. Padded cells count as 0.

    Output channel ``o`` reads the input channels of group ``o // (out / groups)``.
    """

    VALUES: ClassVar = ("x", "weight", "bias")
    x: ValueName
    weight: ValueName
    bias: ValueName | None
    stride: Pair = (1, 1)
    padding: Padding = NO_PADDING
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Activation = Activation.NONE

    def __post_init__(self) -> None:
        _positive("Conv2d", stride=self.stride, dilation=self.dilation, groups=(self.groups, 1))
        _check(min(self.padding) >= 0, f"Conv2d: padding {tuple(self.padding)} is negative")

    def shape(self, x: Shape, weight: Shape, bias: Shape | None = None) -> Shape:
        """(N, out, rows, columns)."""
        _check(len(weight) == 4, f"Conv2d: weight must have rank 4, not {weight}")
        out, per_group, *kernel = weight
        rows, columns = _windows(x, "Conv2d", (kernel[0], kernel[1]), self.stride, self.dilation, self.padding)
        _check(
            x[1] == per_group * self.groups and out % self.groups == 0,
            f"Conv2d: weight {weight} with {self.groups} groups does not fit an input of {x[1]} channels",
        )
        _check(bias in (None, (out,)), f"Conv2d: bias {bias} does not fit {out} output channels")
        return x[0], out, rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``x @ weight.T + bias`` over the last axis, then ``activation``.

    With ``flatten`` every axis of ``x`` but the batch is first taken as one, in row-major order of (C, H, W).
    """

    VALUES: ClassVar = ("x", "weight", "bias")
    x: ValueName
    weight: ValueName
    bias: ValueName | None
    flatten: bool = False
    activation: Activation = Activation.NONE

    def shape(self, x: Shape, weight: Shape, bias: Shape | None = None) -> Shape:
        """The shape of x with its last axis (flattened: all but the first) replaced by the number of outputs."""
        if self.flatten:
            x = (x[0], math.prod(x[1:]))
        _check(len(weight) == 2 and len(x) >= 1, f"Linear: weight {weight} must have rank 2, and x {x} at least 1")
        _check(x[-1] == weight[1], f"Linear: weight {weight} takes {weight[1]} features, the input has {x[-1]}")
        _check(bias in (None, (weight[0],)), f"Linear: bias {bias} does not fit {weight[0]} outputs")
        return (*x[:-1], weight[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool2d:
    """Largest value of each window. Padded cells count as the lowest value, never as 0."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    kernel: Pair
    stride: Pair
    padding: Padding = NO_PADDING
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        _positive("MaxPool2d", kernel=self.kernel, stride=self.stride, dilation=self.dilation)

    def shape(self, x: Shape) -> Shape:
        """(N, C, rows, columns)."""
        size = _windows(x, "MaxPool2d", self.kernel, self.stride, self.dilation, self.padding)
        _no_window_in_padding("MaxPool2d", x, size, self.kernel, self.stride, self.dilation, self.padding)
        return (*x[:2], *size)


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool2d:
    """Mean of each window.

    The sum over the window (padded cells add 0) is divided by ``divisor`` if there is one, else by the number of cells:
    of all cells within image and ``padding`` if ``count_padding``, else of the image's own. ``overhang`` is what
    ``ceil_mode`` adds below and to the right: it makes room for one more window and is never counted.
    """

    VALUES: ClassVar = ("x",)
    x: ValueName
    kernel: Pair
    stride: Pair
    padding: Padding = NO_PADDING
    overhang: Pair = (0, 0)
    count_padding: bool = True
    divisor: int | None = None

    def __post_init__(self) -> None:
        _positive("AvgPool2d", kernel=self.kernel, stride=self.stride)
        _check(self.divisor != 0, "AvgPool2d: divisor is 0")

    @property
    def reach(self) -> Padding:
        """Padding and overhang together: all that windows may touch outside the image."""
        top, bottom, left, right = self.padding
        return Padding(top, bottom + self.overhang[0], left, right + self.overhang[1])

    def shape(self, x: Shape) -> Shape:
        """(N, C, rows, columns)."""
        size = _windows(x, "AvgPool2d", self.kernel, self.stride, (1, 1), self.reach)
        _no_window_in_padding("AvgPool2d", x, size, self.kernel, self.stride, (1, 1), self.reach)
        return (*x[:2], *size)


def _no_window_in_padding(
    what: str, x: Shape, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> None:
    sides = zip(x[2:], size, kernel, stride, dilation, (padding.rows, padding.columns), strict=True)
    for axis, (length, count, k, s, d, (before, _)) in zip(("height", "width"), sides, strict=True):
        empty = [i for i in range(count) if not any(0 <= i * s - before + j * d < length for j in range(k))]
        _check(not empty, f"{what}: window {empty[:1]} along the {axis} of {length} lies wholly in padding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Mean over ``axes``, which stay as axes of length 1 if ``keepdim``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axes: tuple[int, ...]
    keepdim: bool = False

    def shape(self, x: Shape) -> Shape:
        """The shape of x without the axes, or with length 1 there."""
        _check(len(self.axes) > 0 and all(0 <= a < len(x) for a in self.axes), f"Mean: no axes {self.axes} in {x}")
        return tuple(1 if i in self.axes else n for i, n in enumerate(x) if self.keepdim or i not in self.axes)


class _Elementwise:
    """One value in, the same shape out."""

    __slots__ = ()

    def shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(_Elementwise):
    """``max(x, 0)``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Clamp(_Elementwise):
    """``min(max(x, low), high)``; either bound may be infinite."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        _check(self.low <= self.high, f"Clamp: low {self.low} lies above high {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmoid(_Elementwise):
    """``1 / (1 + exp(-x))``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Tanh(_Elementwise):
    """Hyperbolic tangent."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(_Elementwise):
    """``exp(x) / sum(exp(x))`` along ``axis``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axis: int

    def shape(self, x: Shape) -> Shape:
        """The shape of x."""
        _check(0 <= self.axis < len(x), f"Softmax: no axis {self.axis} in {x}")
        return x


class _Binary:
    """Two values in, numpy's broadcasting."""

    __slots__ = ()

    def shape(self, x: Shape, y: Shape) -> Shape:
        """Both shapes, broadcast."""
        try:
            return broadcast(x, y)
        except ValueError as err:
            raise GraphError(f"{type(self).__name__}: {err}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(_Binary):
    """``x + y``, then ``activation``."""

    VALUES: ClassVar = ("x", "y")
    x: ValueName
    y: ValueName
    activation: Activation = Activation.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sub(_Binary):
    """``x - y``, then ``activation``."""

    VALUES: ClassVar = ("x", "y")
    x: ValueName
    y: ValueName
    activation: Activation = Activation.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Mul(_Binary):
    """``x * y``, then ``activation``."""

    VALUES: ClassVar = ("x", "y")
    x: ValueName
    y: ValueName
    activation: Activation = Activation.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Div(_Binary):
    """``x / y``, then ``activation``."""

    VALUES: ClassVar = ("x", "y")
    x: ValueName
    y: ValueName
    activation: Activation = Activation.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat:
    """Values laid one after the other along ``axis``."""

    VALUES: ClassVar = ("xs",)
    xs: tuple[ValueName, ...]
    axis: int

    def shape(self, *xs: Shape) -> Shape:
        """The shape of the first, with the lengths along the axis added up."""
        first, a = xs[0], self.axis
        _check(0 <= a < len(first), f"Concat: no axis {a} in {first}")
        _check(len({(*s[:a], *s[a + 1 :]) for s in xs}) == 1, f"Concat: shapes {xs} differ outside axis {a}")
        return (*first[:a], sum(s[a] for s in xs), *first[a + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape:
    """The same elements in row-major order under another shape."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    to: Shape

    def shape(self, x: Shape) -> Shape:
        """``to``."""
        _check(math.prod(x) == math.prod(self.to), f"Reshape: {x} has not as many elements as {self.to}")
        return self.to


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose:
    """Axis ``i`` of the result is axis ``order[i]`` of x."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    order: tuple[int, ...]

    def shape(self, x: Shape) -> Shape:
        """The axes of x in that order."""
        _check(sorted(self.order) == list(range(len(x))), f"Transpose: {self.order} does not order the axes of {x}")
        return tuple(x[i] for i in self.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad:
    """``value`` added before and after each axis, as many cells as ``pads`` says for it."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    pads: tuple[Pair, ...]
    value: float = 0.0

    def shape(self, x: Shape) -> Shape:
        """The shape of x with each axis longer by its two pads."""
        _check(len(self.pads) == len(x), f"Pad: {len(self.pads)} pairs for a value of rank {len(x)}")
        _check(all(min(p) >= 0 for p in self.pads), f"Pad: {self.pads} is negative")
        return tuple(n + sum(p) for n, p in zip(x, self.pads, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Elements ``start, start + step, ...`` below ``stop`` along ``axis``; all of them non-negative."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axis: int
    start: int
    stop: int
    step: int = 1

    def shape(self, x: Shape) -> Shape:
        """The shape of x with as many elements along the axis as are taken."""
        _check(0 <= self.axis < len(x), f"Slice: no axis {self.axis} in {x}")
        _check(
            self.step > 0 and 0 <= self.start < self.stop <= x[self.axis],
            f"Slice: {self.start}:{self.stop}:{self.step} takes nothing from {x[self.axis]} elements",
        )
        return (*x[: self.axis], len(range(self.start, self.stop, self.step)), *x[self.axis + 1 :])


Binary = Add | Sub | Mul | Div
Unary = Relu | Clamp | Sigmoid | Tanh
Op = (
    Conv2d
    | Linear
    | MaxPool2d
    | AvgPool2d
    | Mean
    | Relu
    | Clamp
    | Sigmoid
    | Tanh
    | Softmax
    | Add
    | Sub
    | Mul
    | Div
    | Concat
    | Reshape
    | Transpose
    | Pad
    | Slice
)
OPS: tuple[type[Op], ...] = get_args(Op)


def inputs_of(op: Op) -> tuple[ValueName, ...]:
    """The values an operator reads, in the order of its fields."""
    names: list[ValueName] = []
    for field in op.VALUES:
        value = getattr(op, field)
        names.extend(value if isinstance(value, tuple) else () if value is None else (value,))
    return tuple(names)


def with_inputs(op: Op, renamed: Mapping[ValueName, ValueName]) -> Op:
    """The same operator, reading ``renamed[name]`` wherever it read ``name``."""
    changes: dict[str, object] = {}
    for field in op.VALUES:
        value = getattr(op, field)
        new = tuple(renamed.get(v, v) for v in value) if isinstance(value, tuple) else renamed.get(value, value)
        if new != value:
            changes[field] = new
    return replace(op, **changes) if changes else op  # type: ignore[arg-type]
