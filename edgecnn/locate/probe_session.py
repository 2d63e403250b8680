"""The target that an artifact failed on, asked about variants of its file, in one process for as long as it lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import numpy as np

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import TargetError
from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.runtimes import RUNTIMES, OptionValue
from edgecnn.targets.target import Target
from edgecnn.types import Array

T = TypeVar("T")
Kernel = tuple[str, str]
"""An operator's kind as the runtime ran it, and its name in the file."""


class ProbeSession:
    """An artifact on a target, for questions about it; leaving the ``with`` block ends the process there."""

    def __init__(self, bundle: Bundle, artifact: Artifact, target: Target) -> None:
        self.bundle, self.artifact, self.target = bundle, artifact, target
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def batch_free(self) -> bool:
        """Whether files take several samples at once."""
        return self.bundle.manifest.batch_resizable

    def run(
        self, data: bytes, what: str, inputs: Sequence[Array], *, options: dict[str, OptionValue] | None = None
    ) -> list[Array]:
        """A file's outputs, for inputs (samples, ...) as it stores them.

        Args:
            data: The file.
            what: What the file is, for messages.
            inputs: Its inputs.
            options: Runtime options besides the target's own.

        Raises:
            TargetError: if the file does not open or run there.
        """

        def ask(connection: Connection) -> list[Array]:
            with connection.open(
                self.target.runtime,
                data,
                f"{self.artifact.path.name}, {what}",
                time_limit=None,
                **{"threads": 1, **self.target.options, **(options or {})},
            ) as session:
                if self.batch_free or len(inputs[0]) == 1:
                    return list(session.infer(inputs))
                rows = [session.infer([a[i : i + 1] for a in inputs]) for i in range(len(inputs[0]))]
            return [np.concatenate(column) for column in zip(*rows, strict=True)]

        return self._ask(ask)

    def kernels(self, data: bytes, what: str, inputs: Sequence[Array]) -> Counter[Kernel] | None:
        """The operators that the runtime really ran, without its copies; None if it has no profiler of its own.

        Raises:
            TargetError: if it does not open or run there.
        """
        profiler = RUNTIMES[self.target.runtime].profiler
        if profiler is None:
            return None

        def ask(connection: Connection) -> Counter[Kernel]:
            options = {"threads": 1, **self.target.options}
            label = f"{self.artifact.path.name}, {what}"
            with connection.open(self.target.runtime, data, label, time_limit=None, profile=True, **options) as session:
                session.bind([np.ascontiguousarray(a[:1]) for a in inputs])
                ran = session.profile(1)
            return Counter((o.operator, profiler.plain_name(o.name)) for o in ran if o.operator not in profiler.copies)

        return self._ask(ask)

    def features(self) -> frozenset[str]:
        """The features of the processor there; empty where they are not known."""
        try:
            return self._ask(lambda connection: frozenset(connection.probe().features or ()))
        except TargetError:
            return frozenset()

    def is_reached(self) -> bool:
        """Whether the host answers, and has the runtime."""
        try:
            return self._ask(lambda connection: self.target.runtime in connection.hello().runtimes)
        except TargetError:
            return False

    def _ask(self, question: Callable[[Connection], T]) -> T:
        """Ask the process there, which is started if it has ended; ask once more if the connection is lost."""
        try:
            return question(self._alive())
        except LostError:
            return question(self._alive())

    def _alive(self) -> Connection:
        if self._connection is None or not self._connection.alive:
            host = self.target.host
            self._connection = host.start(self.target.environment, time_limit=self.target.time_limit)
        return self._connection
