"""The runtimes that the agent can run artifacts on.

To add a runtime, write a module ``<name>_session.py`` next to this one, with a class that has all that `RuntimeSession`
asks for, import the class here, and add one row to `RUNTIME_TABLE`: nothing else in the agent changes. Whatever is
imported here becomes part of the file that devices get; `edgecnn.targets.agent` says what such a module may contain.
The class imports the runtime itself through ``importlib`` when it opens an artifact, since a device has one runtime and
not the others. The host's table, `edgecnn.targets.runtimes.RUNTIMES`, must have a row with the same name and defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from edgecnn.targets.agent.onnxruntime_session import OnnxRuntimeSession
from edgecnn.targets.agent.openvino_session import OpenVinoSession
from edgecnn.targets.agent.runtime_session import RuntimeSession
from edgecnn.targets.agent.tflite_micro_session import TfliteMicroSession
from edgecnn.targets.agent.tflite_session import TfliteSession


class RuntimeRow(NamedTuple):
    """How the agent finds a runtime and opens artifacts on it; the type of an option's default is the option's type."""

    module: str
    distribution: str
    options: dict[str, Any]
    open: Callable[[str, bytes, Mapping[str, Any]], RuntimeSession]


_ONNX_OPTIONS = {"threads": 1, "graph_optimization": "all", "spinning": False, "precision": True}
_TFLITE_OPTIONS = {"threads": 1, "xnnpack": True, "reference_kernels": False}
_MICRO_OPTIONS = {"threads": 1, "arena_bytes": 2**24}
_OPENVINO_OPTIONS = {"threads": 1, "precision": "f32", "int8_kernels": True}
RUNTIME_TABLE: dict[str, RuntimeRow] = {
    "onnxruntime": RuntimeRow("onnxruntime", "onnxruntime", _ONNX_OPTIONS, OnnxRuntimeSession),
    "litert": RuntimeRow("ai_edge_litert", "ai-edge-litert", _TFLITE_OPTIONS, TfliteSession),
    "tflite-runtime": RuntimeRow("tflite_runtime", "tflite-runtime", _TFLITE_OPTIONS, TfliteSession),
    "tflite-micro": RuntimeRow("tflite_micro", "tflite-micro", _MICRO_OPTIONS, TfliteMicroSession),
    "openvino": RuntimeRow("openvino", "openvino", _OPENVINO_OPTIONS, OpenVinoSession),
}
