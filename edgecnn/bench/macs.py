"""Multiply-accumulates of an artifact, read from the file itself."""

from __future__ import annotations

from edgecnn.export.formats import REGISTRY


def macs_of(form: str, data: bytes) -> int | None:
    """Multiply-accumulates of one sample; None where they cannot be told.

    As everywhere in edgecnn, only convolutions and linear layers have any. A convolution does one for each weight that
    an element of its result reads: ``elements of the result * weights / channels of the result``; a transposed one for
    each that an element of its input is spread by.
    """
    return REGISTRY[form].macs(data) if form in REGISTRY else None
