"""What several messages to the user are made of."""

from __future__ import annotations

from collections.abc import Sequence

_LISTED = 8
"""How many names (keys of a checkpoint, say) are given before the rest is counted."""


def some(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
