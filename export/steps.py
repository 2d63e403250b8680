"""A file's operators with all that they hold, in one form for every format, so that two files can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.types import Array


@dataclass(frozen=True, slots=True)
class Held:
    """A constant or a parameter that an operator has: its role, the name of its tensor, and the numbers."""

    role: str
    name: str
    array: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a file.

    Attributes:
        name: The name of its first result.
        kind: Its kind, as the format spells it.
        reads: Names of all tensors that it reads.
        options: Its attributes, as texts.
        held: Its constants and the parameters of its tensors, by slot.
        only_bounds: Whether it is of a kind that bounds its input and computes nothing else.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    options: Mapping[str, str]
    held: Mapping[str, Held]
    only_bounds: bool = False


def option_text(value: Any) -> str:
    """An operator's attribute as a text; equal attributes have equal texts."""
    if isinstance(value, np.ndarray):
        return str(value.tolist())
    return str(list(value)) if isinstance(value, list | tuple) else str(value)
