"""What is known of an artifact before a runtime opens it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgecnn.data.preprocessing import Preprocessing
from edgecnn.export.file_facts import Affine


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a file itself, or the manifest of its bundle, says about it.

    Attributes:
        quantization: Parameters of integer inputs and outputs, by name; None where no parameters hold for all channels.
        layouts: ``nchw`` or ``nhwc`` of inputs and outputs, where that is known, by name.
        custom: Operators that are no part of the format.
        preprocessing: What made the image that the first input is, where a manifest says.
        notes: Which of these came from elsewhere than the file.
    """

    quantization: Mapping[str, Affine | None] = field(default_factory=lambda: MappingProxyType({}))
    layouts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    custom: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
