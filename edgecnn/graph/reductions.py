"""Operators that reduce axes to one element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecnn.graph.opbase import ValueName, axis_of, check
from edgecnn.graph.shapes import Shape


class _Reduction:
    """An operator that reduces ``axes``, with one element for each place of the other axes."""

    __slots__ = ()
    axes: tuple[int, ...]
    keepdim: bool

    def shape(self, x: Shape) -> Shape:
        """The shape of x without the axes, or with length 1 there."""
        what = type(self).__name__
        check(len(self.axes) > 0 and all(0 <= a < len(x) for a in self.axes), f"{what}: no axes {self.axes} in {x}")
        return tuple(1 if i in self.axes else n for i, n in enumerate(x) if self.keepdim or i not in self.axes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean(_Reduction):
    """Mean over ``axes``, which stay as axes of length 1 if ``keepdim``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axes: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum(_Reduction):
    """Sum over ``axes``, which stay as axes of length 1 if ``keepdim``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axes: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Amax(_Reduction):
    """Largest value over ``axes``, which stay as axes of length 1 if ``keepdim``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axes: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Amin(_Reduction):
    """Smallest value over ``axes``, which stay as axes of length 1 if ``keepdim``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axes: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgMax:
    """Position of the first largest value along ``axis``, as int64. Only outputs may be one."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axis: int
    keepdim: bool = False

    def shape(self, x: Shape) -> Shape:
        """The shape of x without the axis, or with length 1 there."""
        axis_of("ArgMax", self.axis, x)
        return (*x[: self.axis], *((1,) if self.keepdim else ()), *x[self.axis + 1 :])
