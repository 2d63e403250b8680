"""An artifact that an agent has opened, and the requests about it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from edgecnn.targets.hosts import replies, timing

if TYPE_CHECKING:
    from edgecnn.targets.hosts.connection import Connection

Arrays = Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]]


class Session:
    """An artifact that an agent has opened; made by `Connection.open`.

    Attributes:
        version: The runtime's version.
        options: All options in force, the defaults among them.
        inputs: The inputs, in the artifact's order.
        outputs: The outputs, in the artifact's order.
        arena_bytes: Memory for tensors if the runtime reports it, as TFLite Micro does; else None.
        load_ns: Time for opening.
        resident_kb: Memory of the agent's process just before opening, if it is known.
        notes: Hints for the user that are no errors: the device could not store the artifact.
    """

    def __init__(
        self,
        connection: Connection,
        subject: str,
        opened: replies.OpenReply,
        named: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.version = opened.version
        self.options = opened.options
        self.inputs = opened.inputs
        self.outputs = opened.outputs
        self.arena_bytes = opened.arena_bytes
        self.load_ns = opened.load_ns
        self.resident_kb = opened.resident_kb
        self.notes = () if opened.not_kept is None else (f"not kept on {connection.name}: {opened.not_kept}",)
        self._connection = connection
        self._subject = subject
        self._named = named  # adds the operators' names to a runtime's error about unsupported operators
        self._fields = {"session": opened.session}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, inputs: Arrays, *, batch: int | None = None, time_limit: float | None = None) -> list[NDArray[Any]]:
        """Run the artifact on inputs.

        Args:
            inputs: Arrays in the artifact's order, or by name; exactly the artifact's types. Their batch
                size may differ from the artifact's.
            batch: The largest number of samples that the runtime gets at once; None for all.
            time_limit: Seconds; None for the connection's own.

        Returns:
            The outputs, in the artifact's order.

        Raises:
            NotOfferedError: The runtime does not offer an operator of the artifact.
            TargetError: The inputs do not fit, or the runtime failed, crashed or did not answer in time.
        """
        return self._run("infer", {} if batch is None else {"batch": batch}, inputs, time_limit)

    def infer_each(
        self, batches: Iterable[Arrays], *, batch: int | None = None, time_limit: float | None = None
    ) -> Iterator[list[NDArray[Any]]]:
        """Run the artifact on batches, each sent while the runtime is busy with the previous one; yield the outputs.

        Args:
            batches: Inputs as `infer` takes them.
            batch: As in `infer`.
            time_limit: Seconds for each; None for the connection's own.

        Raises:
            TargetError: As in `infer`; the agent has ended then, and also if the generator is closed early.
        """
        parse = functools.partial(replies.parse_outputs, outputs=self.outputs)
        given = {} if batch is None else {"batch": batch}
        requests = (({**fields, **given}, arrays) for fields, arrays in map(self._given, batches))
        with self._named():
            yield from self._connection.ask_each(self._subject, "infer", parse, requests, time_limit=time_limit)

    def count(self, inputs: Arrays, *, repeat: int, time_limit: float | None = None) -> list[NDArray[Any]]:
        """Run the artifact several times, with marks for a counter of instructions before the first run and after each.

        Args:
            inputs: As `infer` takes them.
            repeat: How many times, from 1 to 1000.
            time_limit: Seconds; None for the connection's own.

        Returns:
            The last outputs.

        Raises:
            TargetError: As in `infer`.
        """
        return self._run("count", {"repeat": repeat}, inputs, time_limit)

    def _run(self, kind: str, given: Mapping[str, Any], inputs: Arrays, time_limit: float | None) -> list[NDArray[Any]]:
        fields, arrays = self._given(inputs)
        fields |= given
        parse = functools.partial(replies.parse_outputs, outputs=self.outputs)
        with self._named():
            return self._connection.ask(self._subject, kind, parse, fields, arrays, time_limit=time_limit)

    def bind(self, inputs: Arrays, *, time_limit: float | None = None) -> timing.BoundInfo:
        """Put inputs in place for `bench` and `profile`, and run once.

        Args:
            inputs: As for `infer`.
            time_limit: Seconds; None for the connection's own.

        Raises:
            TargetError: As in `infer`.
        """
        fields, arrays = self._given(inputs)
        with self._named():
            return self._connection.ask(
                self._subject, "bind", timing.parse_bound, fields, arrays, time_limit=time_limit
            )

    def bench(self, calls: int, seconds: float, *, time_limit: float | None = None) -> timing.TimingSlice:
        """Time calls on the device, with the inputs that were bound.

        Args:
            calls: The largest number of calls.
            seconds: No call starts after this time, but there is always one call.
            time_limit: Seconds in addition to those; None for the connection's own.

        Raises:
            TargetError: Nothing is bound, or the runtime failed, crashed or did not answer in time.
        """
        fields = {**self._fields, "calls": calls, "seconds": float(seconds)}
        limit = seconds + (self._connection.time_limit if time_limit is None else time_limit)
        return self._connection.ask(self._subject, "bench", timing.parse_slice, fields, time_limit=limit)

    def profile(self, calls: int, *, time_limit: float | None = None) -> list[timing.OperatorTimes]:
        """Return the times that the runtime's profiler measures for operators.

        A session that was opened with ``profile=True`` can do this once.

        Args:
            calls: The number of calls, with the inputs that were bound.
            time_limit: Seconds; None for the connection's own.

        Raises:
            TargetError: The runtime has no profiler that Python can reach, or as in `bench`.
        """
        fields = {**self._fields, "calls": calls}
        return self._connection.ask(self._subject, "profile", timing.parse_profile, fields, time_limit=time_limit)

    def _given(self, inputs: Arrays) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        if isinstance(inputs, Mapping):
            return {**self._fields, "names": list(inputs)}, list(inputs.values())
        return dict(self._fields), list(inputs)

    def close(self) -> None:
        """Free the artifact on the agent. This has no effect the second time or after the connection has ended.

        Raises:
            TargetError: The runtime crashed or did not answer in time.
        """
        if not self._closed and self._connection.alive:
            self._connection.ask(self._subject, "close", replies.parse_nothing, self._fields)
        self._closed = True
