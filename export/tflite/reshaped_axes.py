"""The order of axes in which a reshaped value is stored so that no element moves."""

from __future__ import annotations

from edgecnn.graph.shapes import Shape

Axes = tuple[int, ...]
NHWC: Axes = (0, 2, 3, 1)
NLC: Axes = (0, 2, 1)
PREFERRED = (NHWC, NLC)
"""Channels last, as operators on images take them."""


def reshaped_axes(shape: Shape, axes: Axes, to: Shape) -> Axes | None:
    """The order of ``to`` in which the elements of ``shape``, stored in the order ``axes``, stay where they are.

    Axes that are joined or split form groups; each group's axes must be adjacent and in their own order. None where
    they are not, or where the batch does not stay an axis of its own.
    """
    if not shape or not to or shape[0] != 1 or to[0] != 1 or axes[0] != 0:
        return None
    groups = _groups(shape, to)
    if groups is None:
        return None
    stored = [a for a in axes if a != 0 and shape[a] != 1]
    wanted: list[int] = []
    while stored:
        group = next((g for g in groups if stored[: len(g[0])] == g[0]), None)
        if group is None:
            return None
        stored = stored[len(group[0]) :]
        wanted += group[1]
    return _with_short_axes(to, wanted)


def _groups(shape: Shape, to: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Axes of both, longer than 1, that hold the same elements."""
    left = [i for i, n in enumerate(shape) if n != 1]
    right = [i for i, n in enumerate(to) if n != 1]
    groups = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        m, n = shape[a[0]], to[b[0]]
        while m != n:
            if m < n and left:
                a.append(left.pop(0))
                m *= shape[a[-1]]
            elif n < m and right:
                b.append(right.pop(0))
                n *= to[b[-1]]
            else:
                return None
        groups.append((a, b))
    return None if left or right else groups


def _with_short_axes(to: Shape, wanted: list[int]) -> Axes:
    """The order with axes of length 1 where the usual orders have them, else in front."""
    for axes in (*(p for p in PREFERRED if len(p) == len(to)), tuple(range(len(to)))):
        if [a for a in axes if a != 0 and to[a] != 1] == wanted:
            return axes
    return (0, *(a for a in range(1, len(to)) if to[a] == 1), *wanted)
