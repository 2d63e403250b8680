"""The runtimes an artifact can run on: one row each. What they do is the agent's part (`edgecnn.targets.agent`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

OptionValue = bool | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting of a runtime; the type of its default is its type.

    Attributes:
        default: What holds where nothing is said; the agent's table has the same.
        choices: What a text can be.
        highest: The largest a number can be; the smallest is 1.
    """

    default: OptionValue
    choices: tuple[str, ...] = ()
    highest: int = 0

    @property
    def allowed(self) -> str:
        """What can be given, in words."""
        if isinstance(self.default, bool):
            return "on or off"
        if isinstance(self.default, int):
            return f"a number from 1 to {self.highest}"
        return f"one of {', '.join(self.choices)}"

    def accepts(self, value: object) -> bool:
        """Whether a value is of this option's type, and one of those that can be given."""
        if type(value) is not type(self.default):
            return False
        return value in self.choices if isinstance(value, str) else not self.highest or 1 <= value <= self.highest


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A program that runs artifacts.

    Attributes:
        name: As the user writes it.
        formats: The formats it runs: ``onnx``, ``tflite``.
        module: The Python module whose presence tells that it is installed.
        distribution: What ``pip install`` calls it.
        options: The options that `Connection.open` takes for it.
        lacks: Precisions of those formats that it cannot run, and why.
    """

    name: str
    formats: tuple[str, ...]
    module: str
    distribution: str
    options: Mapping[str, Option]
    lacks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


_THREADS = Option(default=1, highest=256)
_TFLITE_OPTIONS = MappingProxyType(
    {"threads": _THREADS, "xnnpack": Option(default=True), "reference_kernels": Option(default=False)}
)
_ROWS = (
    Runtime(
        name="onnxruntime",
        formats=("onnx",),
        module="onnxruntime",
        distribution="onnxruntime",
        options=MappingProxyType(
            {
                "threads": _THREADS,
                "graph_optimization": Option(default="all", choices=("disable", "basic", "extended", "all")),
                "spinning": Option(default=False),
                "precision": Option(default=True),
            }
        ),
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
        lacks=MappingProxyType({"int8-dynamic": "its last release is older than such a file's FULLY_CONNECTED"}),
    ),
    Runtime(
        name="tflite-micro",
        formats=("tflite",),
        module="tflite_micro",
        distribution="tflite-micro",
        options=MappingProxyType(
            {"threads": Option(default=1, highest=1), "arena_bytes": Option(default=2**24, highest=2**30)}
        ),
        lacks=MappingProxyType(
            {
                "fp16": "TFLite Micro has no float16 weights",
                "int8-dynamic": "TFLite Micro has no float activations beside int8 weights",
            }
        ),
    ),
)
RUNTIMES: Mapping[str, Runtime] = MappingProxyType({row.name: row for row in _ROWS})


def runtimes_for(artifact_format: str) -> tuple[Runtime, ...]:
    """Return the runtimes that run a format, in the table's order; none for a format that no runtime reads."""
    return tuple(runtime for runtime in RUNTIMES.values() if artifact_format in runtime.formats)
