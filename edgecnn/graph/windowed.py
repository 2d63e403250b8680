"""Operators with weights or windows: convolution, linear layers, matrix products, pooling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from edgecnn.graph.opbase import NO_PADDING, Activation, Pair, ValueName, check, image, positive, windows
from edgecnn.graph.shapes import Padding, Shape, broadcast, window_extent


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
        positive("Conv2d", stride=self.stride, dilation=self.dilation, groups=(self.groups, 1))
        check(min(self.padding) >= 0, f"Conv2d: padding {tuple(self.padding)} is negative")

    def shape(self, x: Shape, weight: Shape, bias: Shape | None = None) -> Shape:
        """(N, out, rows, columns)."""
        check(len(weight) == 4, f"Conv2d: weight must have rank 4, not {weight}")
        out, per_group, *kernel = weight
        rows, columns = windows(x, "Conv2d", (kernel[0], kernel[1]), self.stride, self.dilation, self.padding)
        check(
            x[1] == per_group * self.groups and out % self.groups == 0,
            f"Conv2d: weight {weight} with {self.groups} groups does not fit an input of {x[1]} channels",
        )
        check(bias in (None, (out,)), f"Conv2d: bias {bias} does not fit {out} output channels")
        return x[0], out, rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTranspose2d:
    """The transposed convolution: each element of the image adds ``weight``, scaled by it, to the result.

    ``weight`` is (in, out / groups, kernel height, kernel width). Windows lie ``stride`` apart in the result.
    ``padding`` rows and columns of it are cut off on each side, ``output_padding`` fewer of them at the end.
    """

    VALUES: ClassVar = ("x", "weight", "bias")
    x: ValueName
    weight: ValueName
    bias: ValueName | None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Activation = Activation.NONE

    def __post_init__(self) -> None:
        positive("ConvTranspose2d", stride=self.stride, dilation=self.dilation, groups=(self.groups, 1))
        check(min(*self.padding, *self.output_padding) >= 0, "ConvTranspose2d: a padding is negative")

    def shape(self, x: Shape, weight: Shape, bias: Shape | None = None) -> Shape:
        """(N, out, rows, columns)."""
        image(x, "ConvTranspose2d")
        check(
            len(weight) == 4 and x[1] == weight[0] and x[1] % self.groups == 0,
            f"ConvTranspose2d: weight {weight} with {self.groups} groups does not fit an input of {x[1]} channels",
        )
        out = weight[1] * self.groups
        check(bias in (None, (out,)), f"ConvTranspose2d: bias {bias} does not fit {out} output channels")
        sides = zip(x[2:], weight[2:], self.stride, self.padding, self.output_padding, self.dilation, strict=True)
        rows, columns = ((n - 1) * s + window_extent(k, d) - 2 * p + o for n, k, s, p, o, d in sides)
        check(rows > 0 and columns > 0, f"ConvTranspose2d: padding {self.padding} leaves nothing")
        return x[0], out, rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``x @ weight.T + bias`` over the last axis, then ``activation``.

    With ``flatten`` all axes of ``x`` except the batch are first joined to one, in row-major order of (C, H, W).
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
        check(len(weight) == 2 and len(x) >= 1, f"Linear: weight {weight} must have rank 2, and x {x} at least 1")
        check(x[-1] == weight[1], f"Linear: weight {weight} takes {weight[1]} features, the input has {x[-1]}")
        check(bias in (None, (weight[0],)), f"Linear: bias {bias} does not fit {weight[0]} outputs")
        return (*x[:-1], weight[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul:
    """The product of two computed matrices, the last two axes of ``x`` and ``y``; the axes before them broadcast."""

    VALUES: ClassVar = ("x", "y")
    x: ValueName
    y: ValueName

    def shape(self, x: Shape, y: Shape) -> Shape:
        """(..., rows of x, columns of y)."""
        check(len(x) == len(y) >= 2 and x[-1] == y[-2], f"MatMul: {x} and {y} do not fit")
        try:
            return (*broadcast(x[:-2], y[:-2]), x[-2], y[-1])
        except ValueError:
            check(False, f"MatMul: {x} and {y} do not broadcast")
            raise


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
        positive("MaxPool2d", kernel=self.kernel, stride=self.stride, dilation=self.dilation)

    def shape(self, x: Shape) -> Shape:
        """(N, C, rows, columns)."""
        size = windows(x, "MaxPool2d", self.kernel, self.stride, self.dilation, self.padding)
        _no_window_in_padding("MaxPool2d", x, size, self.kernel, self.stride, self.dilation, self.padding)
        return (*x[:2], *size)


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool2d:
    """Mean of each window.

    The sum over the window (padded cells add 0) is divided by ``divisor`` if there is one, else by the number of cells:
    all cells within image and ``padding`` if ``count_padding``, else those of the image. ``overhang`` is what
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
        positive("AvgPool2d", kernel=self.kernel, stride=self.stride)
        check(self.divisor != 0, "AvgPool2d: divisor is 0")

    @property
    def reach(self) -> Padding:
        """Padding and overhang together: the cells outside the image that windows may cover."""
        top, bottom, left, right = self.padding
        return Padding(top, bottom + self.overhang[0], left, right + self.overhang[1])

    def shape(self, x: Shape) -> Shape:
        """(N, C, rows, columns)."""
        size = windows(x, "AvgPool2d", self.kernel, self.stride, (1, 1), self.reach)
        _no_window_in_padding("AvgPool2d", x, size, self.kernel, self.stride, (1, 1), self.reach)
        return (*x[:2], *size)


def _no_window_in_padding(
    what: str, x: Shape, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> None:
    sides = zip(x[2:], size, kernel, stride, dilation, (padding.rows, padding.columns), strict=True)
    for axis, (length, count, k, s, d, (before, _)) in zip(("height", "width"), sides, strict=True):
        empty = [i for i in range(count) if not any(0 <= i * s - before + j * d < length for j in range(k))]
        check(not empty, f"{what}: window {empty[:1]} along the {axis} of {length} lies wholly in padding")
