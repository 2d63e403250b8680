"""OpenVINO in the agent: its session on the CPU plugin, and its counters of operators."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.targets.agent.call_timing import time_once
from edgecnn.targets.agent.messages import DTYPES
from edgecnn.targets.agent.refusal_error import RefusalError
from edgecnn.targets.agent.runtime_session import Bound, SessionTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OPENVINO_PRECISIONS = ("f32", "f16", "bf16")
_TFLITE_IDENTIFIER = b"TFL3"


class OpenVinoSession:
    """OpenVINO on its CPU plugin, with nothing left to a default that depends on the machine."""

    arena_bytes: int | None = None
    debug = False
    delegates: int | None = None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        openvino = importlib.import_module(module)
        self.version = str(openvino.__version__).partition("-")[0]
        self._core, self._tensor_type = openvino.Core(), openvino.Tensor
        # The class in Python converts inputs and builds a dictionary of outputs for each call.
        self._native_infer = importlib.import_module(module + "._pyopenvino").InferRequest.infer
        self._properties = _openvino_properties(options)
        self._model = _read_openvino_model(self._core, artifact)
        self._compile()
        self._refuse_ignored(options)
        self.inputs = [_openvino_tensor(port) for port in self._model.inputs]
        self.outputs = [_openvino_tensor(port) for port in self._model.outputs]

    def infer(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once, as `RuntimeSession.infer` says, and copy the outputs."""
        self._fit(arrays)
        self._request.infer(dict(enumerate(arrays)), share_inputs=True, share_outputs=True)
        return [self._request.get_output_tensor(index).data.copy() for index in range(len(self.outputs))]

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Put the inputs into tensors that OpenVINO reads in place, and run once."""
        self._fit(arrays)
        for index, array in enumerate(arrays):
            self._request.set_input_tensor(index, self._tensor_type(np.ascontiguousarray(array)))
        run = functools.partial(self._native_infer, self._request, {}, True, False)
        return Bound(run, time_once(run))

    def profile(self, run: Callable[[], Any], calls: int) -> tuple[list[dict[str, str]], NDArray[np.int64]]:
        """Return what each operator took by OpenVINO's counters, as `RuntimeSession.profile` says.

        They count whole us, and only in a session that was opened with the option profile.
        """
        rows = []
        for _ in range(calls):
            run()
            ran = [node for node in self._request.get_profiling_info() if str(node.status).endswith(".EXECUTED")]
            rows.append({(node.node_name, f"{node.node_type} {node.exec_type}"): node.real_time for node in ran})
        operators = list(dict.fromkeys(key for row in rows for key in row))
        if not operators:
            raise RefusalError("runtime", "OpenVINO has counted no operator")
        times = [[round(row[key].total_seconds() * 1e9) if key in row else 0 for key in operators] for row in rows]
        return [{"name": name, "operator": kind} for name, kind in operators], np.array(times, np.int64)

    def _compile(self) -> None:
        self._compiled = self._core.compile_model(self._model, "CPU", self._properties)
        self._request = self._compiled.create_infer_request()

    def _fit(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Give the model the inputs' shapes, where its own are fixed to others; that compiles it again."""
        shapes = [array.shape for array in arrays]
        if any(size == 0 for shape in shapes for size in shape):
            raise RefusalError("input", f"OpenVINO cannot run on empty inputs (shapes {shapes})")
        now = [_openvino_shape(port) for port in self._model.inputs]
        if any(want not in (None, got) for sizes, shape in zip(now, shapes) for want, got in zip(sizes, shape)):
            self._model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
            self._compile()

    def _refuse_ignored(self, options: Mapping[str, Any]) -> None:
        """Refuse what OpenVINO would silently do otherwise on this machine."""
        threads = self._compiled.get_property("INFERENCE_NUM_THREADS")
        if threads != options["threads"]:
            raise RefusalError("input", f"OpenVINO takes {threads} threads here, not {options['threads']}")
        given = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if given != options["precision"]:
            raise RefusalError(
                "input", f"OpenVINO computes in {given} on this processor, not in {options['precision']}"
            )


def _openvino_properties(options: Mapping[str, Any]) -> dict[str, Any]:
    if options["precision"] not in _OPENVINO_PRECISIONS:
        known = ", ".join(_OPENVINO_PRECISIONS)
        raise RefusalError("input", f"precision is {options['precision']!r}, not one of {known}")
    properties: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": options["threads"],
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": options["precision"],
        # A thread that is bound to one core waits for whatever else runs there.
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": options["profile"],
    }
    # Not public. Without these passes an int8 file's integers are computed as whole numbers in float kernels.
    return properties if options["int8_kernels"] else {**properties, "LP_TRANSFORMS_MODE": "NO"}


def _read_openvino_model(core: Any, artifact: bytes) -> Any:
    """Read an ONNX file from memory, and a TFLite file from a temporary file, since its reader takes paths only."""
    if artifact[4:8] != _TFLITE_IDENTIFIER:
        return core.read_model(artifact)
    descriptor, path = tempfile.mkstemp(suffix=".tflite")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(artifact)
        return core.read_model(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - what has been read of it stays


def _openvino_tensor(port: Any) -> SessionTensor:
    name = min(port.get_names(), default=port.get_node().get_friendly_name())
    dtype = np.dtype(port.get_element_type().to_dtype()).name
    if dtype not in DTYPES:
        raise RefusalError("input", f"{name} has the type {dtype}, which is not supported")
    return SessionTensor(name, _openvino_shape(port), dtype, None)


def _openvino_shape(port: Any) -> list[int | None]:
    return [size.get_length() if size.is_static else None for size in port.get_partial_shape()]
