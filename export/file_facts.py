"""What a file of any origin says about itself, read without a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgecnn.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """The real value of a stored integer ``q`` is ``scale * (q - zero_point)``."""

    scale: float
    zero_point: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a file says about its inputs, outputs and operators.

    Attributes:
        quantization: Parameters of integer inputs and outputs, by name, where the file states them.
        custom: Names of operators that are no part of the format.
    """

    quantization: Mapping[str, Affine] = field(default_factory=lambda: MappingProxyType({}))
    custom: tuple[str, ...] = ()


def damaged_file(title: str, where: str, why: str) -> BundleError:
    """The error for a file that is not of the format that it should be of."""
    return BundleError(
        f"this is no {title} file, or a damaged one", where=where, why=why, hint="copy or export the file again"
    )
