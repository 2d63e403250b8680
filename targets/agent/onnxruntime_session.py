"""ONNX Runtime in the agent: its session, and the trace of its profiler."""

from __future__ import annotations

import functools
import importlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.targets.agent.call_timing import time_once
from edgecnn.targets.agent.messages import DTYPES
from edgecnn.targets.agent.refusal_error import RefusalError
from edgecnn.targets.agent.runtime_session import Bound, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONNX_DTYPES = {
    **{f"tensor({name})": name for name in DTYPES},
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
_ONNX_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


class OnnxRuntimeSession:
    """ONNX Runtime on its CPU provider, with nothing left to a default that depends on the machine."""

    arena_bytes: int | None = None
    debug = False
    delegates: int | None = None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        ort = importlib.import_module(module)
        self.version = str(ort.__version__)
        self.debug = "build type=Debug" in ort.get_build_info()
        self._session = ort.InferenceSession(
            artifact, self._session_options(ort, options), providers=["CPUExecutionProvider"]
        )
        self.inputs = [self._tensor(value) for value in self._session.get_inputs()]
        self.outputs = [self._tensor(value) for value in self._session.get_outputs()]

    def infer(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once, as `RuntimeSession.infer` says."""
        names = [tensor.name for tensor in self.outputs]
        feed = {tensor.name: array for tensor, array in zip(self.inputs, arrays)}
        return list(self._session.run(names, feed))

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Bind the inputs, run once, and bind the outputs to the memory that this run gave them."""
        binding = self._session.io_binding()
        for tensor, array in zip(self.inputs, arrays):
            binding.bind_cpu_input(tensor.name, array)
        for tensor in self.outputs:
            binding.bind_output(tensor.name)
        run = functools.partial(self._session.run_with_iobinding, binding)
        first_ns = time_once(run)
        for tensor, value in zip(self.outputs, binding.get_outputs()):
            binding.bind_ortvalue_output(tensor.name, value)
        return Bound(run, first_ns)

    def profile(self, run: Callable[[], Any], calls: int) -> tuple[list[dict[str, str]], NDArray[np.int64]]:
        """Profile as `RuntimeSession.profile` says; the runtime's own times are whole microseconds.

        Its profiler runs once in a session: from the opening, with the option ``profile``, to the end of this call.
        """
        for _ in range(calls):
            run()
        path = self._session.end_profiling()
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the runtime gives a string
            events = json.load(file)
        os.remove(path)  # noqa: PTH107
        return _onnx_events(events, calls)

    def _session_options(self, ort: Any, options: Mapping[str, Any]) -> Any:
        level = options["graph_optimization"]
        if level not in _ONNX_LEVELS:
            raise RefusalError("input", f"graph_optimization is {level!r}, not one of {', '.join(_ONNX_LEVELS)}")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options["threads"]
        settings.inter_op_num_threads = 1
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _ONNX_LEVELS[level])
        settings.log_severity_level = 2  # warnings and worse
        settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options["spinning"])))
        # Without it, kernels for x86 with AVX2 and without VNNI add pairs of products in int16, which overflows.
        settings.add_session_config_entry("session.x64quantprecision", str(int(options["precision"])))
        if options["profile"]:
            settings.enable_profiling = True
            settings.profile_file_prefix = os.path.join(tempfile.gettempdir(), f"edgecnn-{os.getpid()}")  # noqa: PTH118
        return settings

    def _tensor(self, value: Any) -> Tensor:
        if value.type not in _ONNX_DTYPES:
            raise RefusalError("input", f"{value.name} has the type {value.type}, which is not supported")
        shape = [size if isinstance(size, int) and size >= 0 else None for size in value.shape]
        return Tensor(value.name, shape, _ONNX_DTYPES[value.type], None)


def _onnx_events(events: Sequence[Mapping[str, Any]], calls: int) -> tuple[list[dict[str, str]], NDArray[np.int64]]:
    """Return the last `calls` times in ns of each operator of ONNX Runtime's trace, in the order in which they ran."""
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    times: dict[tuple[str, str], list[int]] = {}
    for event in kernels:
        key = (event["name"][: -len("_kernel_time")], event["args"]["op_name"])
        times.setdefault(key, []).append(int(event["dur"]) * 1000)
    columns = [values[-calls:] for values in times.values()]
    if not columns or min(map(len, columns)) < calls:
        raise RefusalError("runtime", "the runtime's profiler stopped before the last call: ask for fewer calls")
    return [{"name": name, "operator": operator} for name, operator in times], np.array(columns, np.int64).T
