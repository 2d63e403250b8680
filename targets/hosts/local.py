"""This machine: the agent under this interpreter or another one, such as that of another virtual environment."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from edgecnn.targets.agent import agent
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection
from edgecnn.targets.hosts.host import DEFAULT_ENVIRONMENT, check_environment

MEMORY = 2**33
"""Bytes of data that an agent on this machine can have, 8 GiB: some four times what the largest artifact needs."""


@dataclass(frozen=True, slots=True)
class LocalHost:
    """Starts the agent as a child of this process.

    Attributes:
        python: The interpreter: Python 3.9 or newer with numpy and a runtime.
        label: What it is called; by default ``local``, or the path of another interpreter.
        pythons: Other interpreters, by the name of the runtime that each is for.
    """

    python: str = sys.executable
    label: str = ""
    pythons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def name(self) -> str:
        """What errors call this host."""
        return self.label or ("local" if self.python == sys.executable else self.python)

    @property
    def kind(self) -> str:
        """``local``."""
        return "local"

    @property
    def environments(self) -> tuple[str, ...]:
        """The default one, and one for each of ``pythons``."""
        return (DEFAULT_ENVIRONMENT, *self.pythons)

    def start(self, environment: str = DEFAULT_ENVIRONMENT, *, time_limit: float = DEFAULT_TIME_LIMIT) -> Connection:
        """Start an agent.

        Args:
            environment: One of `environments`.
            time_limit: Seconds for each call that does not state its own.

        Raises:
            TargetError: The interpreter cannot be started, or there is no such environment.
        """
        check_environment(self, environment)
        python = self.pythons.get(environment, self.python)
        # By file, so that sys.path[0] is the agent's folder, which holds nothing else, and not the current one, whose
        # files could shadow modules. Not with -I: it would ignore PYTHONHASHSEED, and PYTHONPATH and user packages,
        # by which the user's own python finds numpy and the runtimes.
        command = [python, str(Path(agent.__file__).resolve())]
        connection = Connection(command, name=self.name, python=python, time_limit=time_limit)
        _limit_memory(connection.pid)
        return connection


def _limit_memory(pid: int) -> None:
    """Hold a program to `MEMORY`, or to less where that holds already: an artifact can ask for any amount."""
    if not hasattr(resource, "prlimit"):  # Linux has it
        return
    with contextlib.suppress(ProcessLookupError):  # it has ended; whoever speaks to it is told
        _, most = resource.prlimit(pid, resource.RLIMIT_DATA)
        bound = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.prlimit(pid, resource.RLIMIT_DATA, (bound, bound))
