"""An artifact on a host whose line may be cut: opened again, and the request repeated, once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection
from edgecnn.targets.hosts.host import Host
from edgecnn.targets.hosts.replies import Option, TensorInfo
from edgecnn.targets.hosts.session import Arrays, Session

T = TypeVar("T")


class ReconnectingSession:
    """As `Session`, but for a line that is cut: once in its life it starts over, and says so in `notes`.

    Running an artifact twice does no harm, so a request that may or may not have been served is sent again. What a
    runtime does wrong is not repeated: only `LostError` is.
    """

    def __init__(self, start: Callable[[], tuple[Connection, Session]]) -> None:
        self._start = start
        self._notes: tuple[str, ...] = ()
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._repeat(self._opened)

    @property
    def version(self) -> str:
        """The runtime's version."""
        return self._opened().version

    @property
    def options(self) -> Mapping[str, Option]:
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
        """Memory for tensors, where the runtime tells."""
        return self._opened().arena_bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know though all went well."""
        return (*self._notes, *self._opened().notes)

    def infer(self, inputs: Arrays, *, batch: int | None = None, time_limit: float | None = None) -> list[NDArray[Any]]:
        """Run the artifact on inputs; see `Session.infer`.

        Raises:
            LostError: The line was cut for the second time.
            TargetError: As `Session.infer`.
        """
        return self._repeat(lambda: self._opened().infer(inputs, batch=batch, time_limit=time_limit))

    def infer_each(self, batches: Iterable[Arrays], *, batch: int | None = None) -> Iterator[list[NDArray[Any]]]:
        """As `infer` for one batch after the other; see `Session.infer_each`.

        Raises:
            LostError: The line was cut for the second time.
            TargetError: As `Session.infer_each`.
        """
        rest, unanswered = iter(batches), deque[Arrays]()

        def asked() -> Iterator[Arrays]:
            yield from tuple(unanswered)  # those that the cut line has swallowed
            for inputs in rest:
                unanswered.append(inputs)
                yield inputs

        while True:
            try:
                for outputs in self._opened().infer_each(asked(), batch=batch):
                    unanswered.popleft()
                    yield outputs
            except LostError as error:
                self._start_over(error)
            else:
                return

    def close(self) -> None:
        """End the agent. Doing it twice does no harm."""
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
            raise self._twice(error) from error

    def _start_over(self, error: LostError) -> None:
        """Forget the connection that was lost, if it is the first one."""
        if self._notes:
            raise self._twice(error) from error
        self._notes = (f"{error.message}; started over",)
        self._session = None

    @staticmethod
    def _twice(error: LostError) -> LostError:
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
    **options: Option,
) -> Iterator[ReconnectingSession]:
    """Open an artifact on a runtime of a host; leaving the block ends the agent.

    Args:
        host: Where.
        environment: One of the host's environments.
        runtime: A name in `RUNTIMES`.
        artifact: The file's bytes.
        label: What errors call the artifact.
        time_limit: Seconds for each call that does not state its own.
        options: As `Connection.open`.

    Raises:
        LostError: The line was cut twice.
        TargetError: As `Host.start` and `Connection.open`.
    """

    def start() -> tuple[Connection, Session]:
        connection = host.start(environment, time_limit=time_limit)
        try:
            return connection, connection.open(runtime, artifact, label, time_limit=None, **options)
        except BaseException:
            connection.close()
            raise

    session = ReconnectingSession(start)
    try:
        yield session
    finally:
        session.close()
