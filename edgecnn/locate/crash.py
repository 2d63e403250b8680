"""Where a runtime crashes, hangs or refuses: a binary search for the first operator that the file cannot be run to."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.errors import TargetError
from edgecnn.export.formats import format_of
from edgecnn.locate.probe_session import ProbeSession
from edgecnn.types import Array


def first_failing(probe: ProbeSession, data: bytes, inputs: Sequence[Array]) -> tuple[str, str, TargetError] | None:
    """The first operator that a file cannot be run to.

    Args:
        probe: The artifact on its target.
        data: The file.
        inputs: One sample, as the file stores it.

    Returns:
        The operator's kind, the name of its first result, and the error; None where the file runs.
    """
    editor = format_of(probe.artifact.format).editor()
    operators = editor.operators(data)
    low, high = 0, len(operators)
    error = _error(probe, data, inputs, "as it is")
    if error is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        here = _error(probe, editor.first_operators(data, middle), inputs, f"up to {operators[middle - 1][1]}")
        if here is None:
            low = middle
        else:
            high, error = middle, here
    return *operators[high - 1], error


def _error(probe: ProbeSession, data: bytes, inputs: Sequence[Array], what: str) -> TargetError | None:
    try:
        probe.run(data, what, inputs)
    except TargetError as error:
        return error
    return None
