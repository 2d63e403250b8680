"""Where a runtime crashes, hangs or refuses: the file is cut behind ever other operators until the first is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from edgecnn.errors import TargetError
from edgecnn.locate import edit_onnx, edit_tflite
from edgecnn.locate.probe_session import Suspect


def first_failing(suspect: Suspect, data: bytes, inputs: Sequence[NDArray[Any]]) -> tuple[str, str, TargetError] | None:
    """The first operator that a file cannot be run to.

    Args:
        suspect: The artifact on its target.
        data: The file.
        inputs: One sample, as the file stores it.

    Returns:
        The operator's kind, the name of what it gives, and the error; None where the file runs.
    """
    onnx = suspect.artifact.format == "onnx"
    operators = edit_onnx.operators(data) if onnx else edit_tflite.operators(data)
    cut = edit_onnx.cut if onnx else edit_tflite.cut
    low, high = 0, len(operators)
    error = _error(suspect, data, inputs, "as it is")
    if error is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        here = _error(suspect, cut(data, middle), inputs, f"up to {operators[middle - 1][1]}")
        if here is None:
            low = middle
        else:
            high, error = middle, here
    return *operators[high - 1], error


def _error(suspect: Suspect, data: bytes, inputs: Sequence[NDArray[Any]], what: str) -> TargetError | None:
    try:
        suspect.run(data, what, inputs)
    except TargetError as error:
        return error
    return None
