"""What picking pixels amounts to: repetition, reflection, a border that goes on."""

from __future__ import annotations

Indices = tuple[int, ...]


def repeated(indices: Indices, length: int) -> int | None:
    """How often each of ``length`` pixels stands there, one after the other, if they all do equally often."""
    times, rest = divmod(len(indices), length)
    return times if not rest and indices == tuple(i // times for i in range(len(indices))) else None


def mirrored(indices: Indices, length: int, mode: str) -> tuple[int, int] | None:
    """Cells before and after, if the indices are all pixels with a reflection (``reflect``) or their end (``edge``)."""
    before = next((i for i in range(len(indices)) if indices[i : i + length] == tuple(range(length))), None)
    if before is None:
        return None
    after = len(indices) - length - before
    if mode == "edge":
        wanted = (0,) * before + tuple(range(length)) + (length - 1,) * after
    elif max(before, after) >= length:
        return None
    else:
        wanted = (*range(before, 0, -1), *range(length), *range(length - 2, length - 2 - after, -1))
    return (before, after) if indices == wanted else None
