"""Operators that compute element by element, and softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from edgecnn.errors import GraphError
from edgecnn.graph.opbase import Activation, ValueName, axis_of, check
from edgecnn.graph.shapes import Shape, broadcast


class _Elementwise:
    """An operator of one value whose result has the shape of that value."""

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
        check(self.low <= self.high, f"Clamp: low {self.low} lies above high {self.high}")


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
class LeakyRelu(_Elementwise):
    """``x`` where it is positive, else ``slope * x``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    slope: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PRelu:
    """``x`` where it is positive, else ``slope * x``; the slope broadcasts over x, as (C, 1, 1) over images."""

    VALUES: ClassVar = ("x", "slope")
    x: ValueName
    slope: ValueName

    def shape(self, x: Shape, slope: Shape) -> Shape:
        """The shape of x."""
        try:
            fits = broadcast(x, slope) == x
        except ValueError:
            fits = False
        check(fits, f"PRelu: slope {slope} does not fit {x}")
        return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Elu(_Elementwise):
    """``x`` where it is positive, else ``exp(x) - 1``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Gelu(_Elementwise):
    """``x`` times the cumulative normal distribution at ``x``; with ``approximate``, by the tanh formula."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    approximate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HardSwish(_Elementwise):
    """``x * relu6(x + 3) / 6``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Softplus(_Elementwise):
    """``log(1 + exp(x))``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Abs(_Elementwise):
    """``|x|``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign(_Elementwise):
    """The sign of x: -1, 0 or 1."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Exp(_Elementwise):
    """``exp(x)``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(_Elementwise):
    """The natural logarithm."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Sqrt(_Elementwise):
    """The square root."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Rsqrt(_Elementwise):
    """``1 / sqrt(x)``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Erf(_Elementwise):
    """The error function."""

    VALUES: ClassVar = ("x",)
    x: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Pow(_Elementwise):
    """``x`` to the power of a constant."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    exponent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(_Elementwise):
    """``exp(x) / sum(exp(x))`` along ``axis``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axis: int

    def shape(self, x: Shape) -> Shape:
        """The shape of x."""
        axis_of("Softmax", self.axis, x)
        return x


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSoftmax(_Elementwise):
    """``x - log(sum(exp(x)))`` along ``axis``."""

    VALUES: ClassVar = ("x",)
    x: ValueName
    axis: int

    def shape(self, x: Shape) -> Shape:
        """The shape of x."""
        axis_of("LogSoftmax", self.axis, x)
        return x


class _Binary:
    """An operator of two values that broadcast by numpy's rule."""

    __slots__ = ()

    def shape(self, x: Shape, y: Shape) -> Shape:
        """The two shapes, broadcast."""
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
class Minimum(_Binary):
    """The smaller of ``x`` and ``y``."""

    VALUES: ClassVar = ("x", "y")
    x: ValueName
    y: ValueName


@dataclass(frozen=True, slots=True, kw_only=True)
class Maximum(_Binary):
    """The larger of ``x`` and ``y``."""

    VALUES: ClassVar = ("x", "y")
    x: ValueName
    y: ValueName
