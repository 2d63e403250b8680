"""Text from a program or a device, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` without what could move a terminal's cursor or fail to encode; lines and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
