"""An artifact on a target as something that can be measured: a process of its own each time."""

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
class Job:
    """An artifact on a target with so many threads and samples in each call.

    Attributes:
        artifact: What runs.
        target: Where.
        threads: How many.
        batch: Samples in each call.
        inputs: As the artifact takes them, the batch first.
        macs: Multiply-accumulates of the model for one sample, where known.
    """

    artifact: Artifact
    target: Target
    threads: int
    batch: int
    inputs: Sequence[NDArray[Any]]
    macs: int | None = None

    @property
    def name(self) -> str:
        """What progress and errors call it."""
        return f"{self.artifact.path.name} on {self.target.name}"

    @property
    def options(self) -> dict[str, OptionValue]:
        """Of the runtime."""
        return {**self.target.options, "threads": self.threads}

    def open(self, *, profile: bool = False) -> tuple[Connection, Session]:
        """A new process with the artifact open; the caller closes it.

        Raises:
            TargetError: It cannot be started or opened.
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

    def start(self) -> OpenJob:
        """Open it in a new process, put inputs in place and run once.

        Raises:
            TargetError: It cannot be started or opened, or does not run.
        """
        return OpenJob(*self.open(), self.inputs)


class OpenJob:
    """A job in its process; see `edgecnn.bench.sampling.Running`."""

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
        """Time at most so many calls, for about so long.

        Raises:
            TargetError: The process is lost.
        """
        return self._session.bench(calls, seconds)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
