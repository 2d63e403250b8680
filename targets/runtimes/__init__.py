"""The runtimes that an artifact can run on: a descriptor each, in a file each, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgecnn.targets.runtimes.litert import LITERT
from edgecnn.targets.runtimes.onnxruntime import ONNXRUNTIME
from edgecnn.targets.runtimes.openvino import OPENVINO
from edgecnn.targets.runtimes.runtime_descriptor import Option, OptionValue, Runtime
from edgecnn.targets.runtimes.tflite_micro import TFLITE_MICRO
from edgecnn.targets.runtimes.tflite_runtime import TFLITE_RUNTIME

__all__ = ["RUNTIMES", "Option", "OptionValue", "Runtime", "runtimes_for", "session_settings"]

RUNTIMES: Mapping[str, Runtime] = MappingProxyType(
    {row.name: row for row in (ONNXRUNTIME, LITERT, TFLITE_RUNTIME, TFLITE_MICRO, OPENVINO)}
)
"""All runtimes, by the names that the user writes."""


def runtimes_for(artifact_format: str) -> tuple[Runtime, ...]:
    """Return the runtimes that run a format, in the table's order; none for a format that no runtime reads."""
    return tuple(runtime for runtime in RUNTIMES.values() if artifact_format in runtime.formats)


def session_settings(artifact_format: str) -> dict[str, Mapping[str, str]]:
    """What programs should set in sessions of their own for a format's int8 files that can saturate, by runtime."""
    rows = ((row.name, row.saturation) for row in runtimes_for(artifact_format))
    return {name: facts.session for name, facts in rows if facts is not None and facts.session}
