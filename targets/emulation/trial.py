"""The first start of a new board: it imports every runtime, so that Python writes its compiled files."""

from __future__ import annotations

from pathlib import Path

from edgecnn.targets.boards import Board
from edgecnn.targets.emulation.command import PREFIX, place_agent, python_command
from edgecnn.targets.emulation.host_programs import run_program
from edgecnn.targets.runtimes import RUNTIMES

_TIME_LIMIT = 300.0
_AGENT = "import runpy, sys; runpy.run_path(sys.argv[1])\n"  # its definitions, and what it imports


def try_board(board: Board, folder: Path) -> None:
    """Start each environment once.

    Raises:
        TargetError: A runtime cannot be imported there.
    """
    for environment in board.environments:
        modules = [
            RUNTIMES[name].working_module
            for name in board.runtimes
            if (environment or name not in board.environments) and environment in {"", name}
        ]
        program = _AGENT + "".join(f"import {module}\n" for module in modules)
        command = python_command(
            board, folder, environment, ["-c", program, place_agent(folder / PREFIX)], variables={}
        )
        run_program(f"a first start of {board.name}", command, time_limit=_TIME_LIMIT)
