"""Parts of messages to the user."""

from __future__ import annotations

from collections.abc import Sequence

_LISTED = 8
"""How many names (such as keys of a checkpoint) are listed; the rest is counted."""


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
