"""How the shape of a value in one file maps to its shape in another: unchanged, or with the channels moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecnn.errors import UsageError
from edgecnn.types import Array

Shape = tuple[int, ...]
Loose = tuple[int | None, ...]
LAYOUTS = ("nchw", "nhwc")
"""Channels first and channels last, whatever the number of axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a value's shape in A maps to its shape in B.

    Attributes:
        shape_a: Its whole shape in A.
        shape_b: Its whole shape in B.
        padded: A's shape with as many axes as ``order`` has.
        order: Axis ``i`` of the result is axis ``order[i]`` of ``padded``.
        layout_a: A's layout, ``nchw`` or ``nhwc``; empty where it is not known.
        layout_b: B's layout; empty where it is not known.
    """

    shape_a: Shape
    shape_b: Shape
    padded: Shape
    order: tuple[int, ...]
    layout_a: str = ""
    layout_b: str = ""

    def to_b(self, array: Array) -> Array:
        """A value of A's shape, or with a longer first axis, in B's."""
        samples = self._samples(array, self.shape_a)
        moved = array.reshape(_with(self.padded, samples)).transpose(self.order)
        return np.ascontiguousarray(moved.reshape(_with(self.shape_b, samples)))

    def to_a(self, array: Array) -> Array:
        """A value of B's shape, or with a longer first axis, in A's."""
        samples = self._samples(array, self.shape_b)
        padded = _with(self.padded, samples)
        moved = array.reshape([padded[axis] for axis in self.order]).transpose(np.argsort(self.order))
        return moved.reshape(_with(self.shape_a, samples))

    @staticmethod
    def _samples(array: Array, shape: Shape) -> int | None:
        return None if array.shape == shape else array.shape[0]

    @property
    def words(self) -> str:
        """Both shapes and layouts, for messages."""
        if self.shape_a == self.shape_b and self.order == tuple(sorted(self.order)):
            layout = f" ({self.layout_a.upper()})" if self.layout_a else ""
            return f"{by(self.shape_a)} in both{layout}"
        names = [f" ({layout.upper()})" if layout else "" for layout in (self.layout_a, self.layout_b)]
        return f"{by(self.shape_a)}{names[0]} in A, {by(self.shape_b)}{names[1]} in B"


class UnfitError(UsageError):
    """Two shapes that cannot be those of one value."""


class AmbiguousError(UsageError):
    """Two shapes that could be those of one value in several ways."""


def by(shape: Sequence[int | None]) -> str:
    """A shape for messages: (1, None, 28) is "1x?x28"."""
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"


def fit(shape_a: Loose, shape_b: Loose, *, layout_a: str = "", layout_b: str = "", batch: int = 1) -> Fit:
    """The one way in which two shapes are those of one value.

    Sizes that one file leaves open are taken from the other; a first axis that both leave open is the batch.

    Args:
        shape_a: A's shape; None for sizes that are left open.
        shape_b: B's shape; None for sizes that are left open.
        layout_a: A's layout, ``nchw`` or ``nhwc``; empty where it is not known.
        layout_b: B's layout; empty where it is not known.
        batch: The size of a batch that both leave open.

    Raises:
        UnfitError: if there is no way, or both leave a size open.
        AmbiguousError: if there are several ways that differ in effect.
    """
    found: dict[tuple[int, ...], Fit] = {}
    for padded_a, padded_b in _padded(shape_a, shape_b):
        for order, first, last in _orders(len(padded_a), layout_a, layout_b):
            settled = _settle(padded_a, padded_b, order, batch)
            if settled is None:
                continue
            whole = tuple(size for size in settled if size is not None)
            if len(whole) != len(settled):
                raise UnfitError(f"{by(shape_a)} and {by(shape_b)} leave a size open", hint="--shape NAME=1x3x224x224")
            effect = tuple(_ordinal(whole, axis) for axis in order if whole[axis] != 1)
            moved = tuple(whole[axis] for axis in order)
            one = Fit(
                shape_a=_unpadded(whole, padded_a, shape_a),
                shape_b=_unpadded(moved, padded_b, shape_b),
                padded=whole,
                order=order,
                layout_a=first,
                layout_b=last,
            )
            found.setdefault(effect, one)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise UnfitError(f"{by(shape_a)} and {by(shape_b)} are not the shapes of one value")
    raise AmbiguousError(
        f"{by(shape_a)} and {by(shape_b)} go together in {len(found)} ways",
        why="the channels may be first or last in either file, and the sizes do not tell",
    )


def same(shape_a: Loose, shape_b: Loose, layout: str = "") -> Fit:
    """The way from a file to itself, whose layout is the same on both sides.

    Raises:
        UnfitError: As `fit`.
    """
    one = fit(shape_a, shape_b, layout_a="nchw", layout_b="nchw")
    return replace(one, layout_a=layout, layout_b=layout)


def _ordinal(whole: Shape, axis: int) -> int:
    """The place of an axis among the axes that have more than one element."""
    return sum(size != 1 for size in whole[:axis])


def _padded(shape_a: Loose, shape_b: Loose) -> list[tuple[Loose, Loose]]:
    """Both with the same number of axes: ones go before the shorter shape, or after its first axis."""
    if len(shape_a) == len(shape_b):
        return [(shape_a, shape_b)]
    longest = max(len(shape_a), len(shape_b))

    def ways(shape: Loose) -> list[Loose]:
        ones = (1,) * (longest - len(shape))
        return [shape] if not ones else [shape[:1] + ones + shape[1:], ones + shape]

    return [(a, b) for a in ways(shape_a) for b in ways(shape_b)]


def _orders(rank: int, layout_a: str, layout_b: str) -> list[tuple[tuple[int, ...], str, str]]:
    """Permutations from A to B, each with the layouts of A and B that it implies, where it implies some."""
    same = tuple(range(rank))
    if rank < 3:
        return [(same, "", "")]
    to_last, to_first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    ways = [
        (same, layout_a or layout_b, layout_a or layout_b),
        (to_last, "nchw", "nhwc"),
        (to_first, "nhwc", "nchw"),
    ]
    return [
        way
        for way in ways
        if (not layout_a or not way[1] or way[1] == layout_a) and (not layout_b or not way[2] or way[2] == layout_b)
    ]


def _settle(padded_a: Loose, padded_b: Loose, order: Sequence[int], batch: int) -> Loose | None:
    """A's sizes, completed by B's; None where the two contradict each other."""
    whole: list[int | None] = list(padded_a)
    for place, axis in enumerate(order):
        there = padded_b[place]
        if whole[axis] is None:
            whole[axis] = batch if there is None and axis == place == 0 else there
        elif there is not None and there != whole[axis]:
            return None
    return tuple(whole)


def _unpadded(whole: Shape, padded: Loose, shape: Loose) -> Shape:
    """The shape without the ones that padding has added."""
    more = len(whole) - len(shape)
    if not more:
        return whole
    after_first = len(shape) > 0 and padded[:1] == shape[:1] and padded[1 : 1 + more] == (1,) * more
    return whole[:1] + whole[1 + more :] if after_first else whole[more:]


def _with(shape: Shape, samples: int | None) -> Shape:
    return shape if samples is None else (samples, *shape[1:])


def elements(shape: Sequence[int]) -> int:
    """How many elements an array of a shape has."""
    return math.prod(shape)
