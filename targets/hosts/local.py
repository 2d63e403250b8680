"""This machine: the agent under this interpreter or another one, such as that of another virtual environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from edgecnn.targets.agent import agent
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection


@dataclass(frozen=True, slots=True)
class LocalHost:
    """Starts the agent as a child of this process.

    Attributes:
        python: The interpreter: Python 3.9 or newer with numpy and a runtime.
    """

    python: str = sys.executable

    @property
    def name(self) -> str:
        """What errors call this host: ``local``, or another interpreter's path."""
        return "local" if self.python == sys.executable else self.python

    def start(self, *, time_limit: float = DEFAULT_TIME_LIMIT) -> Connection:
        """Start an agent.

        Args:
            time_limit: Seconds for each call that does not state its own.

        Raises:
            TargetError: The interpreter cannot be started.
        """
        # By file, so that sys.path[0] is the agent's folder, which holds nothing else, and not the current one, whose
        # files could shadow modules. Not with -I: it would ignore PYTHONHASHSEED, and PYTHONPATH and user packages,
        # by which the user's own python finds numpy and the runtimes.
        command = [self.python, str(Path(agent.__file__).resolve())]
        return Connection(command, name=self.name, python=self.python, time_limit=time_limit)
