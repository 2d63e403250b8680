"""An artifact on a host whose line may be cut: the artifact is opened again and the request repeated, once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection
from edgecnn.targets.hosts.host import Host
from edgecnn.targets.hosts.machine_info import ProbeInfo
from edgecnn.targets.hosts.replies import TensorInfo
from edgecnn.targets.hosts.session import Arrays, Session
from edgecnn.targets.runtimes import OptionValue

T = TypeVar("T")


class ReconnectingSession:
    """A session that starts over once if the line is cut, and reports that in `notes`; otherwise like `Session`.

    Running an artifact twice does no harm, so a request that may or may not have been served is sent again. Only
    `LostError` leads to that: requests on which the runtime failed are not repeated.
    """

    def __init__(
        self,
        start: Callable[[], tuple[Connection, Session]],
        again: Callable[[Connection, Mapping[str, OptionValue]], Session] | None = None,
    ) -> None:
        self._start, self._again = start, again
        self._notes: tuple[str, ...] = ()
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._repeat(self._opened)

    @property
    def version(self) -> str:
        """The runtime's version."""
        return self._opened().version

    @property
    def options(self) -> Mapping[str, OptionValue]:
        """All options in force."""
        return self._opened().options

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs, in the artifact's order."""
        return self._opened().inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs, in the artifact's order."""
        return self._opened().outputs

    @property
    def arena_bytes(self) -> int | None:
        """Memory for tensors, if the runtime reports it."""
        return self._opened().arena_bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """Hints for the user that are no errors."""
        return (*self._notes, *self._opened().notes)

    def infer(self, inputs: Arrays, *, batch: int | None = None, time_limit: float | None = None) -> list[NDArray[Any]]:
        """Run the artifact on inputs; see `Session.infer`.

        Raises:
            LostError: The line was cut a second time.
            TargetError: As in `Session.infer`.
        """
        return self._repeat(lambda: self._opened().infer(inputs, batch=batch, time_limit=time_limit))

    def infer_each(self, batches: Iterable[Arrays], *, batch: int | None = None) -> Iterator[list[NDArray[Any]]]:
        """Run the artifact on batches and yield the outputs; see `Session.infer_each`.

        Raises:
            LostError: The line was cut a second time.
            TargetError: As in `Session.infer_each`.
        """
        rest, unanswered = iter(batches), deque[Arrays]()

        def to_send() -> Iterator[Arrays]:
            yield from tuple(unanswered)  # those that were lost with the line
            for inputs in rest:
                unanswered.append(inputs)
                yield inputs

        while True:
            try:
                for outputs in self._opened().infer_each(to_send(), batch=batch):
                    unanswered.popleft()
                    yield outputs
            except LostError as error:
                self._start_over(error)
            else:
                return

    def probe(self) -> ProbeInfo:
        """Ask the agent for a description of its machine; see `Connection.probe`.

        Raises:
            TargetError: As in `Connection.probe`.
        """
        self._opened()
        assert self._connection is not None
        return self._connection.probe()

    def open_again(self, **options: OptionValue) -> Session:
        """Open the artifact once more in the same agent, with options that differ from those of this session.

        Raises:
            TargetError: As in `Connection.open`; a line that is cut is not restored.
        """
        self._opened()
        assert self._connection is not None
        assert self._again is not None
        return self._again(self._connection, options)

    def close(self) -> None:
        """End the agent. This has no effect the second time."""
        if self._connection is not None:
            self._connection.close()

    def _opened(self) -> Session:
        if self._session is None:
            self._connection, self._session = self._start()
        return self._session

    def _repeat(self, what: Callable[[], T]) -> T:
        try:
            return what()
        except LostError as error:
            self._start_over(error)
        try:
            return what()
        except LostError as error:
            raise self._lost_twice(error) from error

    def _start_over(self, error: LostError) -> None:
        """Forget the connection that was lost, if it is the first one."""
        if self._notes:
            raise self._lost_twice(error) from error
        self._notes = (f"{error.message}; started over",)
        self._session = None

    @staticmethod
    def _lost_twice(error: LostError) -> LostError:
        return LostError(f"{error.message}, twice", where=error.where, why=error.why, hint=error.hint)


@contextmanager
def open_reconnecting(
    host: Host,
    environment: str,
    runtime: str,
    artifact: bytes,
    label: str,
    *,
    time_limit: float = DEFAULT_TIME_LIMIT,
    **options: OptionValue,
) -> Iterator[ReconnectingSession]:
    """Open an artifact on a runtime of a host; leaving the block ends the agent.

    Args:
        host: The host.
        environment: One of the host's environments.
        runtime: A name in `RUNTIMES`.
        artifact: The file's bytes.
        label: What errors call the artifact.
        time_limit: Seconds for each call that does not state its own.
        options: As in `Connection.open`.

    Raises:
        LostError: The line was cut twice.
        TargetError: As in `Host.start` and `Connection.open`.
    """

    def start() -> tuple[Connection, Session]:
        connection = host.start(environment, time_limit=time_limit)
        try:
            return connection, connection.open(runtime, artifact, label, time_limit=None, **options)
        except BaseException:
            connection.close()
            raise

    def again(connection: Connection, other: Mapping[str, OptionValue]) -> Session:
        return connection.open(runtime, artifact, label, time_limit=None, **{**options, **other})

    session = ReconnectingSession(start, again)
    try:
        yield session
    finally:
        session.close()
