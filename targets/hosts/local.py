"""This machine: the agent under this interpreter or another one, such as that of another virtual environment."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgecnn.errors import TargetError
from edgecnn.targets.agent.single_file import agent_source
from edgecnn.targets.hosts.bootstrap import LOCAL_BOOTSTRAP
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection, Ending
from edgecnn.targets.hosts.host import DEFAULT_ENVIRONMENT, check_environment
from edgecnn.targets.hosts.process import Child

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
        source = agent_source().encode()
        # Not with -I: it would ignore PYTHONHASHSEED, and PYTHONPATH and user packages, by which the user's own Python
        # finds numpy and the runtimes.
        command = [python, "-c", LOCAL_BOOTSTRAP, str(len(source))]
        line = _AgentOnStdin(self.name, source, time_limit)
        connection = Connection(command, name=self.name, python=python, time_limit=time_limit, line=line)
        _limit_memory(connection.pid)
        return connection


@dataclass(frozen=True, slots=True)
class _AgentOnStdin:
    """Sends the agent to an interpreter that waits for it on stdin."""

    name: str
    source: bytes
    time_limit: float

    def begin(self, child: Child) -> None:
        """Send the agent."""
        child.limit(self.time_limit)
        try:
            child.write(self.source)
        except TimeoutError as error:
            raise TargetError(f"{self.name}: Python did not start within {self.time_limit:g} s") from error
        except BrokenPipeError:
            pass  # it has ended; whoever reads next is told how

    def ending(self, child: Child) -> Ending:
        """Return how the agent ended."""
        return Ending(what=child.autopsy(), words=child.last_words())


def _limit_memory(pid: int) -> None:
    """Hold a program to `MEMORY`, or to less where that holds already: an artifact can ask for any amount."""
    if not hasattr(resource, "prlimit"):  # Linux has it
        return
    with contextlib.suppress(ProcessLookupError):  # it has ended; whoever speaks to it is told
        _, most = resource.prlimit(pid, resource.RLIMIT_DATA)
        bound = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.prlimit(pid, resource.RLIMIT_DATA, (bound, bound))
