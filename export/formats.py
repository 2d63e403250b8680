"""The registry of formats, and the precisions that each is written in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from edgecnn.errors import UsageError
from edgecnn.export.format_descriptor import Format, Refusal
from edgecnn.export.onnx.format import ONNX
from edgecnn.export.tflite.format import TFLITE

REGISTRY: Mapping[str, Format] = MappingProxyType({row.name: row for row in (ONNX, TFLITE)})
"""Every format that a runtime opens, by name. C source is no row: it is a TFLite file in another wrapping."""
FORMATS = tuple(REGISTRY)
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic", "int16x8")
OFFERED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(p for p in PRECISIONS if p in row.writers) for name, row in REGISTRY.items()}
)
"""The precisions that each format can be written in."""
REFUSED: Mapping[tuple[str, str], Refusal] = MappingProxyType(
    {(name, precision): why for name, row in REGISTRY.items() for precision, why in row.refused.items()}
)
"""What a format does not offer: the reason, and what to try."""


def format_of(name: str) -> Format:
    """The descriptor of a format.

    Raises:
        UsageError: if there is no such format.
    """
    if name not in REGISTRY:
        raise UsageError(f"{name!r} is no format", hint=f"one of: {', '.join(FORMATS)}")
    return REGISTRY[name]


def check_offered(form: str, precision: str) -> None:
    """Refuse a precision that a format does not offer.

    Raises:
        UsageError: with the reason and what to try.
    """
    format_of(form).check_offers(precision)


def formats_with(option: str) -> tuple[Format, ...]:
    """The formats that have a field of `edgecnn.export.format_descriptor.WriteOptions` of their own."""
    return tuple(row for row in REGISTRY.values() if option in row.options)


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
