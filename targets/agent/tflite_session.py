"""LiteRT and tflite-runtime in the agent: one session class serves both."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.targets.agent.call_timing import time_once
from edgecnn.targets.agent.messages import DTYPES
from edgecnn.targets.agent.refusal_error import RefusalError
from edgecnn.targets.agent.runtime_session import Bound, Tensor, installed_version, refuse_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TfliteSession:
    """A TFLite interpreter: LiteRT's or tflite-runtime's. Of what is used here only the modules' names differ."""

    arena_bytes: int | None = None
    debug = False
    delegates: int | None = None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        package = importlib.import_module(module)
        api = importlib.import_module(module + ".interpreter")
        self.version = str(getattr(package, "__version__", None) or installed_version(module) or "unknown")
        self._interpreter = api.Interpreter(
            model_content=artifact,
            num_threads=options["threads"],
            experimental_op_resolver_type=self._resolver(api.OpResolverType, options),
        )
        self._interpreter.allocate_tensors()
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        signature = self._signature()
        self.inputs = [describe_tensor(item, name) for item, name in pair_names(inputs, signature.get("inputs", {}))]
        self.outputs = [describe_tensor(item, name) for item, name in pair_names(outputs, signature.get("outputs", {}))]
        self._input_indices = [int(item["index"]) for item in inputs]
        self._output_indices = [int(item["index"]) for item in outputs]
        self._allocated: list[tuple[int, ...]] | None = [tuple(item["shape"].tolist()) for item in inputs]

    def infer(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run as `RuntimeSession.infer` says, and copy the outputs. Tensors are reallocated only if a shape changes."""
        self._resize([array.shape for array in arrays])
        for index, array in zip(self._input_indices, arrays):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._output_indices]

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Fill the input tensors, which runs leave unchanged, and run once."""
        self._resize([array.shape for array in arrays])
        for index, array in zip(self._input_indices, arrays):
            self._interpreter.set_tensor(index, array)
        # Nothing public says whether XNNPACK has started. This private call is the same in TensorFlow 2.5 to LiteRT 2.
        details = getattr(self._interpreter, "_get_ops_details", None)
        self.delegates = details and sum("delegate" in str(item["op_name"]).lower() for item in details())
        return Bound(self._interpreter.invoke, time_once(self._interpreter.invoke))

    def profile(self, _: Callable[[], Any], __: int) -> tuple[list[dict[str, str]], NDArray[np.int64]]:
        """Refuse: what the interpreter measures of its operators cannot be read from Python."""
        refuse_profile()

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        if shapes == self._allocated:
            return
        if any(size == 0 for shape in shapes for size in shape):
            raise RefusalError("input", f"TFLite cannot run on empty inputs (shapes {shapes})")
        self._allocated = None  # until all has gone well, so that the next call repairs a failure here
        for index, shape in zip(self._input_indices, shapes):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._allocated = shapes

    @staticmethod
    def _resolver(types: Any, options: Mapping[str, Any]) -> Any:
        if options["reference_kernels"] and options["xnnpack"]:
            raise RefusalError("input", "reference_kernels run without XNNPACK: give xnnpack=False with it")
        if options["reference_kernels"]:
            return types.BUILTIN_REF
        return types.BUILTIN if options["xnnpack"] else types.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def _signature(self) -> Mapping[str, Mapping[str, int]]:
        # No other call gives names with tensor indices without building a second runner: the public
        # get_signature_list leaves the indices out. This private call is the same from TensorFlow 2.5 to LiteRT 2.
        signatures: Mapping[str, Mapping[str, Mapping[str, int]]] = self._interpreter._get_full_signature_list()  # noqa: SLF001
        if len(signatures) == 1:
            return next(iter(signatures.values()))
        return signatures.get("serving_default", {})


def pair_names(details: list[Mapping[str, Any]], signature: Mapping[str, int]) -> list[tuple[Mapping[str, Any], str]]:
    """Pair tensors with names: those of the signature if it names exactly these tensors, else the tensors' own."""
    indices = [int(item["index"]) for item in details]
    names = {int(index): name for name, index in signature.items()}
    if set(names) != set(indices):
        return [(item, str(item["name"])) for item in details]
    return [(item, names[index]) for item, index in zip(details, indices)]


def describe_tensor(details: Mapping[str, Any], name: str) -> Tensor:
    """Return an input or output from what an interpreter says about it.

    Raises:
        RefusalError: Its type cannot be sent, or it is quantized per channel.
    """
    dtype = np.dtype(details["dtype"]).name
    if dtype not in DTYPES:
        raise RefusalError("input", f"{name} has the type {dtype}, which is not supported")
    scales = details["quantization_parameters"]["scales"]
    zero_points = details["quantization_parameters"]["zero_points"]
    if len(scales) > 1:
        raise RefusalError("input", f"{name} is quantized per channel; inputs and outputs are per tensor")
    quantization = {"scale": float(scales[0]), "zero_point": int(zero_points[0])} if len(scales) else None
    shape = [size if size >= 0 else None for size in details["shape_signature"].tolist()]
    return Tensor(name, shape, dtype, quantization)
