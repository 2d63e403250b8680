"""An artifact on a target to be measured, each time in a new process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgecnn.bench.sampling import Start
from edgecnn.bundle import Artifact
from edgecnn.errors import EdgecnnError
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.session import Session
from edgecnn.targets.hosts.timing import TimingSlice
from edgecnn.targets.runtimes import OptionValue
from edgecnn.targets.target import Target


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BenchJob:
    """An artifact to measure on a target, with a number of threads and of samples in each call.

    Attributes:
        artifact: The artifact.
        target: The target.
        threads: Number of threads.
        batch: Samples in each call.
        inputs: Inputs in the artifact's layout and types, batch first.
        macs: Multiply-accumulates of the model for one sample, if known.
    """

    artifact: Artifact
    target: Target
    threads: int
    batch: int
    inputs: Sequence[NDArray[Any]]
    macs: int | None = None

    @property
    def name(self) -> str:
        """The job's name in progress messages and errors."""
        return f"{self.artifact.path.name} on {self.target.name}"

    @property
    def options(self) -> dict[str, OptionValue]:
        """Options of the runtime, with the number of threads."""
        return {**self.target.options, "threads": self.threads}

    def open(self, *, profile: bool = False) -> tuple[Connection, Session]:
        """Open the artifact in a new process, which the caller closes.

        Raises:
            TargetError: The process cannot be started, or the artifact cannot be opened.
        """
        target = self.target
        connection = target.host.start(target.environment, time_limit=target.time_limit)
        try:
            label = self.artifact.path.name
            data, limit = self.artifact.read(), target.time_limit
            return connection, connection.open(
                target.runtime, data, label, time_limit=limit, profile=profile, **self.options
            )
        except BaseException:
            connection.close()
            raise

    def start(self) -> OpenBenchJob:
        """Open the artifact in a new process, bind its inputs and run it once.

        Raises:
            TargetError: The process cannot be started, or the artifact cannot be opened or run.
        """
        return OpenBenchJob(*self.open(), self.inputs)


class OpenBenchJob:
    """A job that is open in its process; see `edgecnn.bench.sampling.Running`."""

    def __init__(self, connection: Connection, session: Session, inputs: Sequence[NDArray[Any]]) -> None:
        self._connection, self._session = connection, session
        try:
            bound = session.bind(inputs)
        except EdgecnnError:
            connection.close()
            raise
        self.start = Start(
            version=session.version,
            options=session.options,
            load_ns=session.load_ns,
            bound=bound,
            resident_kb=session.resident_kb,
            arena_bytes=session.arena_bytes,
            notes=session.notes,
        )

    def take(self, calls: int, seconds: float) -> TimingSlice:
        """Time calls, up to a number of calls and for approximately a number of seconds.

        Raises:
            TargetError: The connection to the process is lost.
        """
        return self._session.bench(calls, seconds)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
