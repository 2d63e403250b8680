"""Emulated boards whose agents are started once for all tests: under QEMU each start takes seconds."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from support.shared_host import Kept

from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import build_board
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.emulated import EmulatedHost

SLOW = 300.0  # seconds: emulated, and on a busy machine


class KeptBoard(EmulatedHost):
    """A board that gives out one connection for each environment again and again."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        super().__init__(load_board(name))
        object.__setattr__(self, "_stack", stack)
        object.__setattr__(self, "_started", {})

    def start(self, environment: str = "", **_: Any) -> Any:
        """The environment's agent, started where it was not yet."""
        if environment not in self._started:
            self._started[environment] = self._stack.enter_context(super().start(environment, time_limit=SLOW))
        return Kept(self._started[environment])


class Boards:
    """All boards by their names, built where they are not yet."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._hosts: dict[str, KeptBoard] = {}

    def host(self, name: str) -> KeptBoard:
        """A board whose agents are kept."""
        if name not in self._hosts:
            build_board(load_board(name))
            self._hosts[name] = KeptBoard(name, self._stack)
        return self._hosts[name]

    def __call__(self, name: str, runtime: str) -> Connection:
        """The agent that has a runtime."""
        board = self.host(name)
        return board.start(board.environment_of(runtime))
