"""QEMU's plugin that counts instructions; it is compiled if there is a C compiler."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.targets.boards import Board
from edgecnn.targets.emulation import cache, host_programs
from edgecnn.targets.emulation.host_programs import QEMU, counting_problems, run_program

SOURCE = Path(__file__).with_name("icount.c")
LIBRARY = "libicount.so"
_TIME_LIMIT = 60.0
_FIRST, _AFTER = (6, 0), (9, 0)
"""QEMU loads plugins of the first interface from version 6.0 up to, but not including, 9.0."""


def plugin_folder(folder: Path) -> Path:
    """Return the folder of the compiled plugin, whether it exists or not."""
    return folder / "plugins" / cache.key(SOURCE.read_text("utf-8"))


def build_plugin(folder: Path) -> Path | None:
    """Compile the plugin unless it exists; return its path, or None if there is no compiler.

    Raises:
        TargetError: The compiler failed.
    """
    compiled = plugin_folder(folder)
    program = host_programs.compiler()
    if not compiled.is_dir() and program is None:
        return None

    def make(partial: Path) -> None:
        assert program
        command = [program, "-O2", "-shared", "-fPIC", "-o", str(partial / LIBRARY), str(SOURCE)]
        run_program("the counting plugin", command, time_limit=_TIME_LIMIT, hint="apt install gcc libc6-dev")

    cache.ensure(compiled, make)
    return compiled / LIBRARY


def require_plugin(board: Board, folder: Path) -> Path:
    """Return the plugin's path; compile the plugin if necessary.

    Raises:
        TargetError: The plugin cannot be compiled, or QEMU cannot load it.
    """
    plugin = build_plugin(folder)
    if plugin is None:
        problem = counting_problems()[0]
        raise TargetError(f"{board.name}: {problem.what}", hint=problem.hint)
    version = qemu_version(board)
    if not _FIRST <= version < _AFTER:
        raise TargetError(
            f"{board.name}: QEMU {version[0]}.{version[1]} cannot count instructions",
            why="the plugin is written for the interface of QEMU 6.0 to 8.2",
            hint="Debian 12's qemu-user is 7.2",
        )
    return plugin


def qemu_version(board: Board) -> tuple[int, int]:
    """Return the emulator's version.

    Raises:
        TargetError: The emulator is not installed, or does not state its version.
    """
    name = QEMU[board.architecture]
    said = run_program(
        board.name, [shutil.which(name) or name, "--version"], time_limit=_TIME_LIMIT, hint="apt install qemu-user"
    )
    found = re.search(r"version (\d+)\.(\d+)", said)
    if not found:
        raise TargetError(f"{board.name}: {name} --version states no version", why=said[:200])
    return int(found[1]), int(found[2])
