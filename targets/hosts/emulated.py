"""A board that QEMU emulates: the agent and the runtimes' own wheels for the board's processor, started from here.

Wall-clock times there say nothing of the board's.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgecnn.errors import TargetError
from edgecnn.targets.agent.main import NO_THREADS
from edgecnn.targets.boards import Board
from edgecnn.targets.emulation.build import board_folder, is_built
from edgecnn.targets.emulation.cache import cache_folder
from edgecnn.targets.emulation.command import PREFIX, Counting, place_agent, python_command
from edgecnn.targets.emulation.plugin import require_plugin
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection
from edgecnn.targets.hosts.host import DEFAULT_ENVIRONMENT, check_environment

_MARKS = "marks"
# No threads but those that inferences need: what they execute is counted too, whenever they happen to run.
_ONE_THREAD = MappingProxyType({"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"})


class CountingConnection(Connection):
    """A connection to an agent whose instructions are counted."""

    def __init__(self, command: Sequence[str], folder: Path, **options: Any) -> None:
        self._marks = folder / _MARKS
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(command, **options)

    def marks(self) -> list[dict[str, int]]:
        """Return what the plugin has written: instructions by kind, ``total`` among them, at each mark so far.

        Raises:
            TargetError: It has written something else, or nothing.
        """
        try:
            lines = self._marks.read_text().splitlines()
            return [{kind: int(count) for kind, count in (w.split("=") for w in line.split())} for line in lines]
        except (OSError, ValueError) as error:
            raise TargetError(f"{self.name}: the counting plugin wrote no counts", why=str(error)) from error


@dataclass(frozen=True, slots=True)
class EmulatedHost:
    """Starts the agent on an emulated board.

    Attributes:
        board: The board.
        cache: Where it has been built; None for the user's cache folder.
    """

    board: Board
    cache: Path | None = None

    @property
    def name(self) -> str:
        """The board's name."""
        return self.board.name

    @property
    def kind(self) -> str:
        """``emulated``."""
        return "emulated"

    @property
    def environments(self) -> tuple[str, ...]:
        """As the board's file has them."""
        return self.board.environments

    def environment_of(self, runtime: str) -> str:
        """Return the environment that has a runtime.

        Raises:
            TargetError: The board has no such runtime.
        """
        if runtime not in self.board.runtimes:
            why = self.board.missing.get(runtime, "")
            raise TargetError(f"{self.name} has no {runtime}", why=why, hint=f"it has {', '.join(self.board.runtimes)}")
        return runtime if runtime in self.environments else DEFAULT_ENVIRONMENT

    def start(
        self,
        environment: str = DEFAULT_ENVIRONMENT,
        *,
        time_limit: float = DEFAULT_TIME_LIMIT,
        counting: bool = False,
    ) -> Connection:
        """Start an agent.

        Args:
            environment: One of `environments`.
            time_limit: Seconds for each call that does not state its own.
            counting: Whether to count instructions, see `start_counting`.

        Raises:
            TargetError: The board has not been built, or QEMU is not there, or there is no such environment.
        """
        if counting:
            return self.start_counting(environment, time_limit=time_limit)
        return Connection(self.command(environment), name=self.name, time_limit=time_limit)

    def start_counting(
        self, environment: str = DEFAULT_ENVIRONMENT, *, time_limit: float = DEFAULT_TIME_LIMIT
    ) -> CountingConnection:
        """Start an agent whose instructions are counted: everything takes longer.

        Raises:
            TargetError: As `start`, or there is no C compiler to compile the plugin with.
        """
        self._check(environment)
        plugin = require_plugin(self.board, cache_folder(self.cache))
        with self._told():
            folder = Path(tempfile.mkdtemp(prefix="edgecnn-marks-"))
        command = self.command(environment, counting=Counting(plugin, folder / _MARKS))
        return CountingConnection(command, folder, name=self.name, time_limit=time_limit)

    def command(self, environment: str = DEFAULT_ENVIRONMENT, *, counting: Counting | None = None) -> list[str]:
        """Return the command that starts the agent.

        Raises:
            TargetError: As `start`.
        """
        self._check(environment)
        folder = board_folder(self.board, self.cache)
        with self._told():
            program = place_agent(folder / PREFIX)
        if not counting:
            return python_command(self.board, folder, environment, [program])
        arguments = [program, NO_THREADS]
        return python_command(self.board, folder, environment, arguments, counting=counting, variables=_ONE_THREAD)

    def _check(self, environment: str) -> None:
        check_environment(self, environment)
        if not is_built(self.board, self.cache):
            raise TargetError(f"{self.name} has not been built yet", hint=f"edgecnn targets emulate {self.name}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TargetError(
                f"{self.name} cannot be started: {error.strerror or error}",
                where=str(error.filename or ""),
                hint="make room there",
            ) from error
