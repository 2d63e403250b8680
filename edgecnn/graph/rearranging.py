"""Operators that rearrange elements: concatenation, slicing, reshaping, padding, gathering, resizing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from edgecnn.graph.opbase import Pair, ValueName, axis_of, check, image, positive
from edgecnn.graph.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat:
    """The values one after the other along ``axis``."""

    VALUES: ClassVar = ("xs",)
    xs: tuple[ValueName, ...]
    axis: int

    def shape(self, *xs: Shape) -> Shape:
        """The shape of the first value, with the lengths along the axis summed."""
        first, a = xs[0], self.axis
        check(0 <= a < len(first), f"Concat: no axis {a} in {first}")
        check(len({(*s[:a], *s[a + 1 :]) for s in xs}) == 1, f"Concat: shapes {xs} differ outside axis {a}")
        return (*first[:a], sum(s[a] for s in xs), *first[a + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape:
    """The elements of x in row-major order under another shape."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    to: Shape

    def shape(self, x: Shape) -> Shape:
        """The new shape, ``to``."""
        check(math.prod(x) == math.prod(self.to), f"Reshape: {x} has not as many elements as {self.to}")
        return self.to


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose:
    """Axis ``i`` of the result is axis ``order[i]`` of x."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    order: tuple[int, ...]

    def shape(self, x: Shape) -> Shape:
        """The lengths of x in the new order of axes."""
        check(sorted(self.order) == list(range(len(x))), f"Transpose: {self.order} does not order the axes of {x}")
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
        check(len(self.pads) == len(x), f"Pad: {len(self.pads)} pairs for a value of rank {len(x)}")
        check(all(min(p) >= 0 for p in self.pads), f"Pad: {self.pads} is negative")
        return tuple(n + sum(p) for n, p in zip(x, self.pads, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The elements ``start, start + step, ...`` below ``stop`` along ``axis``; all three are non-negative."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axis: int
    start: int
    stop: int
    step: int = 1

    def shape(self, x: Shape) -> Shape:
        """The shape of x, with the number of selected elements along the axis."""
        check(0 <= self.axis < len(x), f"Slice: no axis {self.axis} in {x}")
        check(
            self.step > 0 and 0 <= self.start < self.stop <= x[self.axis],
            f"Slice: {self.start}:{self.stop}:{self.step} takes nothing from {x[self.axis]} elements",
        )
        return (*x[: self.axis], len(range(self.start, self.stop, self.step)), *x[self.axis + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Element ``i`` along ``axis`` of the result is element ``indices[i]`` of x."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axis: int
    indices: tuple[int, ...]

    def shape(self, x: Shape) -> Shape:
        """The shape of x, with the number of indices along the axis."""
        axis_of("Gather", self.axis, x)
        check_indices("Gather", self.indices, x[self.axis])
        return (*x[: self.axis], len(self.indices), *x[self.axis + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherImage:
    """Pixel (i, j) of the result is pixel (``rows[i]``, ``columns[j]``) of x.

    Nearest-neighbour resizing and reflecting, replicating or circular padding are written in this way.
    """

    VALUES: ClassVar = ("x",)
    x: ValueName
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def shape(self, x: Shape) -> Shape:
        """(N, C, number of rows, number of columns)."""
        image(x, "GatherImage")
        check_indices("GatherImage", self.rows, x[2])
        check_indices("GatherImage", self.columns, x[3])
        return (*x[:2], len(self.rows), len(self.columns))


def check_indices(what: str, indices: tuple[int, ...], length: int) -> None:
    """Refuse an empty list of indices, and indices outside an axis."""
    check(
        len(indices) > 0 and min(indices) >= 0 and max(indices) < length,
        f"{what}: indices {indices[:8]} do not fit {length} elements",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthToSpace:
    """Each pixel becomes a square of ``block`` by ``block`` pixels, its channels distributed over the square.

    Channel ``(i * block + j) * C + c`` goes to row i, column j of the square, channel c; with ``channels_first``
    (torch's pixel shuffle) it is channel ``(c * block + i) * block + j``.
    """

    VALUES: ClassVar = ("x",)
    x: ValueName
    block: int
    channels_first: bool = False

    def __post_init__(self) -> None:
        positive("DepthToSpace", block=(self.block, 1))

    def shape(self, x: Shape) -> Shape:
        """(N, C / block^2, H * block, W * block)."""
        image(x, "DepthToSpace")
        check(x[1] % self.block**2 == 0, f"DepthToSpace: {x[1]} channels are no squares of {self.block}")
        return x[0], x[1] // self.block**2, x[2] * self.block, x[3] * self.block


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceToDepth:
    """Each square of ``block`` by ``block`` pixels becomes one pixel with the channels of all of them.

    Row i, column j of the square, channel c, goes to channel ``(i * block + j) * C + c``.
    """

    VALUES: ClassVar = ("x",)
    x: ValueName
    block: int

    def __post_init__(self) -> None:
        positive("SpaceToDepth", block=(self.block, 1))

    def shape(self, x: Shape) -> Shape:
        """(N, C * block^2, H / block, W / block)."""
        image(x, "SpaceToDepth")
        check(x[2] % self.block == x[3] % self.block == 0, f"SpaceToDepth: {x} is no squares of {self.block}")
        return x[0], x[1] * self.block**2, x[2] // self.block, x[3] // self.block


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeBilinear:
    """Bilinear resizing: each pixel is a weighted mean of the four nearest pixels.

    Row ``i`` of ``to`` rows lies at ``i * (H - 1) / (to - 1)`` with ``align_corners``, else at
    ``(i + 0.5) / factor - 0.5``, not below 0; ``factor`` is ``to / H`` unless ``factors`` says otherwise. Columns
    follow the same rule.
    """

    VALUES: ClassVar = ("x",)
    x: ValueName
    to: Pair
    align_corners: bool = False
    factors: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        positive("ResizeBilinear", to=self.to)

    def shape(self, x: Shape) -> Shape:
        """(N, C, rows, columns)."""
        return (*image(x, "ResizeBilinear")[:2], *self.to)

    def blend(self, size: int, axis: int) -> list[tuple[int, int, float]]:
        """For each row (axis 0) or column (axis 1) of the result: the two source lines and the weight of the second."""
        to = self.to[axis]
        factor = to / size if self.factors is None else self.factors[axis]
        found = []
        for i in range(to):
            if self.align_corners:
                at = i * (size - 1) / (to - 1) if to > 1 else 0.0
            else:
                at = max((i + 0.5) / factor - 0.5, 0.0)
            low = min(math.floor(at), size - 1)
            found.append((low, min(low + 1, size - 1), min(max(at - low, 0.0), 1.0)))
        return found
