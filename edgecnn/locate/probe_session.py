"""The target an artifact failed on, asked about files made of that artifact, all in one process as long as it lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import numpy as np

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import TargetError
from edgecnn.targets.hosts.connection import Connection, LostError
from edgecnn.targets.runtimes import RUNTIMES, OptionValue
from edgecnn.targets.target import Target
from edgecnn.types import Array

T = TypeVar("T")
Kernel = tuple[str, str]
"""An operator's kind as the runtime ran it, and its name in the file."""


class Suspect:
    """An artifact on a target; leaving the ``with`` block ends the process there."""

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
            what: What it is of the artifact, for messages.
            inputs: Its inputs.
            options: Runtime options beside the target's own.

        Raises:
            TargetError: if it does not open or run there.
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

        return self._asked(ask)

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

        return self._asked(ask)

    def features(self) -> frozenset[str]:
        """What the processor there can do; empty where it does not tell."""
        try:
            return self._asked(lambda connection: frozenset(connection.probe().features or ()))
        except TargetError:
            return frozenset()

    def is_reached(self) -> bool:
        """Whether the host answers, and has the runtime."""
        try:
            return self._asked(lambda connection: self.target.runtime in connection.hello().runtimes)
        except TargetError:
            return False

    def _asked(self, question: Callable[[Connection], T]) -> T:
        """Ask the process there; one that is gone is started anew, and a line that was cut is tried once more."""
        try:
            return question(self._alive())
        except LostError:
            return question(self._alive())

    def _alive(self) -> Connection:
        if self._connection is None or not self._connection.alive:
            host = self.target.host
            self._connection = host.start(self.target.environment, time_limit=self.target.time_limit)
        return self._connection
