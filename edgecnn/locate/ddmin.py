"""Delta debugging: a smallest part of a list that still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


def minimise(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """A part of the list, in its order, that fails, and no longer fails when any one of its items is left out.

    This is ``ddmin`` of Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002): halves are
    tried first, then the list without one of ever smaller pieces.

    Args:
        items: The list, which is known to fail as a whole.
        fails: Whether a part of the list fails.
    """
    kept, pieces = list(items), 2
    while len(kept) > 1:
        parts = _split(kept, pieces)
        part = next((p for p in parts if fails(p)), None)
        if part is not None:
            kept, pieces = part, 2
            continue
        rests = [] if len(parts) == 2 else [_without(parts, i) for i in range(len(parts))]
        rest = next((r for r in rests if fails(r)), None)
        if rest is not None:
            kept, pieces = rest, max(pieces - 1, 2)
        elif pieces >= len(kept):
            break
        else:
            pieces = min(2 * pieces, len(kept))
    return kept


def _split(items: list[T], pieces: int) -> list[list[T]]:
    ends = [len(items) * i // pieces for i in range(pieces + 1)]
    return [items[a:b] for a, b in pairwise(ends)]


def _without(parts: list[list[T]], left_out: int) -> list[T]:
    return [item for i, part in enumerate(parts) if i != left_out for item in part]
