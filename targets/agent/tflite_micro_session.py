"""TFLite Micro in the agent: its session, and what it reports on stderr only."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.targets.agent.call_timing import time_once
from edgecnn.targets.agent.messages import MAX_PAYLOAD
from edgecnn.targets.agent.refusal_error import RefusalError
from edgecnn.targets.agent.runtime_session import Bound, Tensor, refuse_profile
from edgecnn.targets.agent.tflite_session import describe_tensor, pair_names

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TfliteMicroSession:
    """TFLite Micro's interpreter. Its shapes are fixed: a longer batch runs in pieces of the artifact's size."""

    debug = False
    delegates: int | None = None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        _check_micro(artifact, options)
        self.version = str(importlib.import_module(module).__version__)
        api = importlib.import_module(module + ".python.tflite_micro.runtime")
        self._interpreter = _with_reason(
            lambda: api.Interpreter.from_bytes(artifact, arena_size=options["arena_bytes"])
        )
        self.arena_bytes = _arena(self._interpreter.print_allocations)
        model = api.convert_bytearray_to_object(artifact)  # the interpreter itself gives no names
        graph, signature = model.subgraphs[0], _micro_signature(model.signatureDefs or [])
        self.inputs = self._tensors(graph, graph.inputs, self._interpreter.get_input_details, signature)
        self.outputs = self._tensors(graph, graph.outputs, self._interpreter.get_output_details, signature)
        self._batch = {int(graph.tensors[index].shape[0]) for index in graph.inputs if len(graph.tensors[index].shape)}

    def infer(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run as `RuntimeSession.infer` says; the outputs of pieces are joined."""
        count = self._pieces([array.shape for array in arrays])
        if count == 1:
            return self._invoke(arrays)
        pieces = [self._invoke(piece) for piece in zip(*(np.split(array, count) for array in arrays))]
        return [np.concatenate(parts) for parts in zip(*pieces)]

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Run once. Every run fills the input tensors first, since other tensors use their memory later in a run."""
        if self._pieces([array.shape for array in arrays]) != 1:
            raise RefusalError("input", f"TFLite Micro runs batches of {sorted(self._batch)} only")
        run = functools.partial(self._fill_and_invoke, arrays)
        return Bound(run, _with_reason(lambda: time_once(run)))

    def profile(self, _: Callable[[], Any], __: int) -> tuple[list[dict[str, str]], NDArray[np.int64]]:
        """Refuse: the interpreter's profiler cannot be reached from Python."""
        refuse_profile()

    def _fill_and_invoke(self, arrays: Sequence[NDArray[Any]]) -> None:
        for index, array in enumerate(arrays):
            self._interpreter.set_input(array, index)
        self._interpreter.invoke()

    def _invoke(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        _with_reason(lambda: self._fill_and_invoke(arrays))
        return [self._interpreter.get_output(index) for index in range(len(self.outputs))]

    def _pieces(self, shapes: list[tuple[int, ...]]) -> int:
        lengths = {shape[0] for shape in shapes if shape}
        if any(size == 0 for shape in shapes for size in shape):
            raise RefusalError("input", f"TFLite cannot run on empty inputs (shapes {shapes})")
        if lengths == self._batch:
            return 1
        if len(lengths) != 1 or len(self._batch) != 1 or min(lengths) % min(self._batch):
            raise RefusalError("input", f"batches of {sorted(lengths)} do not divide into the artifact's {self._batch}")
        return min(lengths) // min(self._batch)

    @staticmethod
    def _tensors(graph: Any, indices: Sequence[int], details: Any, signature: Mapping[int, str]) -> list[Tensor]:
        items: list[Mapping[str, Any]] = []
        for position, index in enumerate(int(i) for i in indices):
            tensor = graph.tensors[index]
            signed = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
            name = bytes(tensor.name or b"").decode("utf-8", "replace")
            items.append({**details(position), "shape_signature": np.array(signed), "index": index, "name": name})
        own = {name: index for index, name in signature.items() if index in {item["index"] for item in items}}
        return [describe_tensor(item, name) for item, name in pair_names(items, own)]


def _check_micro(artifact: bytes, options: Mapping[str, Any]) -> None:
    if options["threads"] != 1:
        raise RefusalError("input", f"TFLite Micro has one thread, not {options['threads']}")
    if not 0 < options["arena_bytes"] <= MAX_PAYLOAD:
        raise RefusalError("input", f"arena_bytes is {options['arena_bytes']}, not from 1 to {MAX_PAYLOAD}")
    if artifact[4:8] != b"TFL3":  # the interpreter would read past the buffer
        raise RefusalError("input", f"the artifact is no TFLite file: it begins with {artifact[:8]!r}")


def _micro_signature(definitions: Sequence[Any]) -> dict[int, str]:
    """Return names by tensor index, from the signature that `TfliteSession` would read."""
    chosen = definitions if len(definitions) == 1 else [d for d in definitions if d.signatureKey == b"serving_default"]
    return {int(item.tensorIndex): item.name.decode() for d in chosen[:1] for item in [*d.inputs, *d.outputs]}


def _arena(print_allocations: Callable[[], None]) -> int | None:
    """Return the bytes of the arena in use, which TFLite Micro reports on stderr only; None where it does not."""
    found = re.search(rb"Arena allocation total (\d+) bytes", _stderr_of(print_allocations))
    return int(found[1]) if found else None


def _with_reason(call: Callable[[], Any]) -> Any:
    """Return the result of a call into TFLite Micro.

    Raises:
        RuntimeError: The call failed. It is repeated to catch the reason, which TFLite Micro writes to stderr only.
    """
    try:
        return call()
    except RuntimeError as error:
        reason = _stderr_of(lambda: _ignore_failure(call)).decode("utf-8", "replace").replace("\r", "")
        raise RuntimeError(f"{error}\n{reason}".strip()) from error


def _ignore_failure(call: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):
        call()


def _stderr_of(call: Callable[[], Any]) -> bytes:
    """Return what a call writes to stderr, from native code too; what a pipe cannot hold is dropped."""
    stderr, (reader, writer) = os.dup(2), os.pipe()
    os.set_blocking(writer, False)
    try:
        os.dup2(writer, 2)
        call()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()
