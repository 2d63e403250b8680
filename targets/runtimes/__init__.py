"""The runtimes an artifact can run on: one row each. What they do is the agent's part (`edgecnn.targets.agent`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A program that runs artifacts.

    Attributes:
        name: As the user writes it.
        formats: The formats it runs: ``onnx``, ``tflite``.
        module: The Python module whose presence tells that it is installed.
        distribution: What ``pip install`` calls it.
        options: The names of the options that `Connection.open` takes for it.
    """

    name: str
    formats: tuple[str, ...]
    module: str
    distribution: str
    options: tuple[str, ...]


_TFLITE_OPTIONS = ("threads", "xnnpack", "reference_kernels")
_ROWS = (
    Runtime(
        name="onnxruntime",
        formats=("onnx",),
        module="onnxruntime",
        distribution="onnxruntime",
        options=("threads", "graph_optimization", "spinning"),
    ),
    Runtime(
        name="litert",
        formats=("tflite",),
        module="ai_edge_litert",
        distribution="ai-edge-litert",
        options=_TFLITE_OPTIONS,
    ),
    Runtime(
        name="tflite-runtime",
        formats=("tflite",),
        module="tflite_runtime",
        distribution="tflite-runtime",
        options=_TFLITE_OPTIONS,
    ),
    Runtime(
        name="tflite-micro",
        formats=("tflite",),
        module="tflite_micro",
        distribution="tflite-micro",
        options=("threads", "arena_bytes"),
    ),
)
RUNTIMES: Mapping[str, Runtime] = MappingProxyType({row.name: row for row in _ROWS})


def runtimes_for(artifact_format: str) -> tuple[Runtime, ...]:
    """Return the runtimes that run a format, in the table's order; none for a format that no runtime reads."""
    return tuple(runtime for runtime in RUNTIMES.values() if artifact_format in runtime.formats)
