"""What an exporter gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An artifact in memory.

    Attributes:
        data: The file's bytes.
        operators: How many of each of the format's operators it holds.
        axes: For each input and output, by name: its axis ``i`` holds the graph's axis ``axes[i]``.
        notes: What the user should know: an operator that could not be avoided, and why.
    """

    data: bytes
    operators: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
