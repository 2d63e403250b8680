"""What can be exported: formats and precisions, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from edgecnn.errors import UsageError

FORMATS = ("onnx", "tflite")
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic", "int16x8")
OFFERED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"onnx": ("fp32", "fp16", "int8"), "tflite": ("fp32", "fp16", "int8", "int8-dynamic", "int16x8")}
)
"""The precisions that each format can be written in."""
REFUSED: Mapping[tuple[str, str], tuple[str, str]] = MappingProxyType(
    {
        ("onnx", "int8-dynamic"): (
            "ONNX Runtime takes about 1.5 (lenet5) to 2.4 times (resnet8) as long as in float: ConvInteger is slow",
            "int8 for speed, fp16 for a smaller file, or --formats tflite",
        ),
        ("onnx", "int16x8"): (
            "ONNX Runtime's QLinearConv takes no int16: it would compute such a file in float",
            "fp16, int8, or --formats tflite",
        ),
    }
)
"""What a format does not offer: the reason, and what to try."""


def check_offered(form: str, precision: str) -> None:
    """Refuse a precision that a format does not offer.

    Raises:
        UsageError: with the reason and what to try.
    """
    if (form, precision) in REFUSED:
        reason, hint = REFUSED[form, precision]
        raise UsageError(f"{precision} is not written as {form}", why=reason, hint=hint)


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
