"""Multiply-accumulates of an artifact, read from the file itself."""

from __future__ import annotations

from edgecnn.export.formats import REGISTRY


def macs_of(form: str, data: bytes) -> int | None:
    """Multiply-accumulates of one sample; None if they cannot be determined.

    As everywhere in edgecnn, only convolutions and linear layers count. A convolution has ``elements of the result *
    weights / channels of the result``; a transposed convolution has one for each weight that is applied to an element
    of its input.
    """
    return REGISTRY[form].macs(data) if form in REGISTRY else None
