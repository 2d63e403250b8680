"""The interface of converters, and helpers that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgecnn.graph import ops
from edgecnn.graph.ops import Op, ValueName
from edgecnn.graph.shapes import Shape


class Unsupported(Exception):  # noqa: N818  (an answer, collected and reported with all others)
    """A call that the graph cannot express: the reason, and what to try."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Builder(Protocol):
    """The graph under construction, as converters see it."""

    @property
    def result_shape(self) -> Shape:
        """Shape of the call's result (of the first of several) by torch, with a batch of 1."""

    @property
    def result_shapes(self) -> tuple[Shape, ...]:
        """The shapes of all results of the call."""

    def add(self, op: Op, suffix: str = "") -> ValueName:
        """Add an operator named after the call, with a suffix for intermediate steps."""

    def constant(self, array: npt.NDArray[Any], suffix: str) -> ValueName:
        """Add a constant named after the call."""

    def shape(self, value: ValueName) -> Shape:
        """The shape of a value."""

    def elements(self, value: ValueName | None) -> npt.NDArray[np.float32] | None:
        """The elements of a constant, or None where the value is computed from an input."""


class Args(Mapping[str, Any]):
    """The arguments of a call by the names of its schema. Tensors are names of values."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def pair(self, key: str, default: str | None = None) -> tuple[int, int]:
        """An argument of one or two numbers as height and width; an empty one takes those of ``default``."""
        value = self._values[key]
        if default is not None and (value is None or value == []):
            return self.pair(default)
        value = [value] if isinstance(value, int) else list(value)
        return (int(value[0]), int(value[-1]))

    def width(self, key: str, default: str | None = None, *, height: int = 1) -> tuple[int, int]:
        """An argument of one number as (height, width); an empty one takes that of ``default``."""
        value = self._values[key]
        if default is not None and (value is None or value == []):
            return self.width(default, height=height)
        return (height, int(value if isinstance(value, int) else value[0]))

    def tensor(self) -> ValueName:
        """The tensor that the call works on: the argument ``self`` or ``input``."""
        value: ValueName = self._values["self"] if "self" in self._values else self._values["input"]
        return value


Converter = Callable[[Builder, Args], ValueName | tuple[ValueName, ...]]


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis from one that may count from the end."""
    return axis + rank if axis < 0 else axis


def axes_of(dims: Any, rank: int) -> tuple[int, ...]:
    """Axes as non-negative numbers in order: one, several, or all if none is given."""
    if dims is None or dims == []:
        return tuple(range(rank))
    return tuple(sorted(axis_of(d, rank) for d in ([dims] if isinstance(dims, int) else dims)))


def batched(b: Builder, x: ValueName, rank: int, what: str) -> ValueName:
    """Refuse a value without a batch axis."""
    if len(b.shape(x)) != rank:
        raise Unsupported(
            f"{what} is given a value of rank {len(b.shape(x))}, without a batch axis", "x.unsqueeze(0) before it"
        )
    return x


def as_image(b: Builder, x: ValueName, what: str) -> ValueName:
    """Reshape a signal (N, C, L) to an image of height 1."""
    n, c, length = b.shape(batched(b, x, 3, what))
    return b.add(ops.Reshape(x=x, to=(n, c, 1, length)), "image")


def as_signal(b: Builder, x: ValueName) -> ValueName:
    """Reshape an image of height 1 to a signal."""
    n, c, _, length = b.shape(x)
    return b.add(ops.Reshape(x=x, to=(n, c, length)))


def known(b: Builder, value: ValueName, what: str) -> npt.NDArray[np.float32]:
    """The elements of a parameter; refuse one that is computed from an input."""
    elements = b.elements(value)
    if elements is None:
        raise Unsupported(f"a parameter of {what} is computed from the input")
    return elements


def operand(b: Builder, value: Any, name: str) -> ValueName:
    """A tensor itself, or a constant for a Python number."""
    return value if isinstance(value, str) else b.constant(np.array(value, np.float64), name)


def times(b: Builder, x: ValueName, factor: float, suffix: str = "") -> ValueName:
    """A value times a number."""
    return x if factor == 1 else b.add(ops.Mul(x=x, y=operand(b, factor, suffix or "factor")), suffix)


def plus(b: Builder, x: ValueName, summand: float, suffix: str = "") -> ValueName:
    """A value plus a number."""
    return x if summand == 0 else b.add(ops.Add(x=x, y=operand(b, summand, suffix or "summand")), suffix)


def whole(numbers: Iterable[Any]) -> tuple[int, ...]:
    """A tuple of numbers as ints."""
    return tuple(int(n) for n in numbers)


def same(b: Builder, a: Args) -> ValueName:  # noqa: ARG001  (a converter's signature)
    """Convert an operator that changes nothing to its input."""
    return a.tensor()
