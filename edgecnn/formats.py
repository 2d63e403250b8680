"""What can be exported: formats and precisions, in one place."""

from __future__ import annotations

from collections.abc import Iterable

from edgecnn.errors import UsageError

FORMATS = ("onnx", "tflite")
PRECISIONS = ("fp32", "int8")


def check_choice(what: str, given: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """The given names without repetition, in the order of the known ones.

    Raises:
        UsageError: if there is none, or one that is not known.
    """
    names = list(given)
    unknown = [n for n in names if n not in known]
    if unknown or not names:
        wrong = ", ".join(map(repr, unknown)) or "no name at all"
        raise UsageError(f"{what}: {wrong} given", hint=f"one or several of: {', '.join(known)}")
    return tuple(n for n in known if n in names)
