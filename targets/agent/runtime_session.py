"""What every runtime offers to the agent: an artifact that is open, its tensors, and ways to run it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

import numpy as np

from edgecnn.targets.agent.refusal_error import RefusalError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Tensor(NamedTuple):
    """An input or output of an artifact; None in `shape` is a dimension that may have any size."""

    name: str
    shape: list[int | None]
    dtype: str
    quantization: dict[str, Any] | None  # {"scale": float, "zero_point": int}


class Bound(NamedTuple):
    """An artifact with its inputs in place: `run` is only the runtime's own call, and the first one took `first_ns`."""

    run: Callable[[], Any]
    first_ns: int


class RuntimeSession(Protocol):
    """An artifact that is open on a runtime.

    It is made from the name of the runtime's module, the artifact's bytes, and a value for each option of the runtime's
    row in `RUNTIME_TABLE`; one more option, ``profile``, says whether `profile` will be called.
    """

    version: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    arena_bytes: int | None  # of memory for tensors, where the runtime reports it
    debug: bool  # whether the runtime says that it was built without optimization
    delegates: int | None  # parts that a delegate has taken over, where the runtime has delegates

    def infer(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs for inputs that match `inputs` in number, type and rank; both in the artifact's order."""

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Put such inputs in place and run once."""

    def profile(self, run: Callable[[], Any], calls: int, /) -> tuple[list[dict[str, str]], NDArray[np.int64]]:
        """Make `calls` calls of `run`, which is `Bound.run`, and return what each operator took.

        Returns:
            The ``name`` and ``operator`` of each operator, and times in ns of shape (calls, operators).

        Raises:
            RefusalError: The runtime has no profiler; see `refuse_profile`.
        """


def refuse_profile() -> NoReturn:
    """Refuse to profile, for a runtime without a profiler."""
    raise RefusalError("input", "this runtime has no profiler that Python can reach")


def infer_in_batches(batch: int, session: RuntimeSession, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the outputs for all samples, which the runtime gets `batch` at a time."""
    if batch < 1:
        raise RefusalError("input", f"a batch is 1 sample or more, not {batch}")
    samples = {array.shape[0] if array.ndim else 0 for array in arrays}
    if len(samples) != 1 or max(samples) <= batch:
        return session.infer(arrays)
    parts = [session.infer([array[i : i + batch] for array in arrays]) for i in range(0, max(samples), batch)]
    return [np.concatenate(column) for column in zip(*parts)]


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
