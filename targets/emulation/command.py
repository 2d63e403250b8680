"""The command that starts a program on an emulated board: the same on every machine, as far as the program can see."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edgecnn.errors import TargetError
from edgecnn.targets.agent.single_file import agent_source
from edgecnn.targets.boards import Board
from edgecnn.targets.emulation.host_programs import QEMU
from edgecnn.targets.emulation.prefix import site_path

PREFIX = "prefix"
"""The name of the folder, in the board's folder, that QEMU takes for a program's ``/``."""

HERE = f"/proc/self/cwd/{PREFIX}"
"""The board's ``/``, under a name that a program on the board can use in every system call."""

# The whole environment of a program. The user's own variables would move its stack, and that changes the count of
# instructions by a few.
_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "ORT_DISABLE_TELEMETRY": "1",
        "PATH": "/usr/bin:/bin",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
    }
)


@dataclass(frozen=True, slots=True)
class Counting:
    """How to count instructions.

    Attributes:
        plugin: QEMU's compiled plugin, in the same cache as the board.
        marks: The file that the plugin writes.
    """

    plugin: Path
    marks: Path


def python_command(
    board: Board,
    folder: Path,
    environment: str,
    arguments: Sequence[str],
    *,
    counting: Counting | None = None,
    variables: Mapping[str, str] = MappingProxyType({"PYTHONDONTWRITEBYTECODE": "1"}),
) -> list[str]:
    """Return the command that runs Python on a built board.

    Files of the board are named through ``/proc/self/cwd``, the folder where QEMU starts. That text does not depend on
    the cache's place, and it needs no redirection: QEMU 7.2 does not redirect ``statx``, which 32-bit programs use for
    every ``stat``, and would look for ``/usr/lib/python3`` on the host.

    Args:
        board: The board.
        folder: The folder where it has been built.
        environment: One of the board's environments.
        arguments: Arguments for Python.
        counting: How to count instructions; None for not counting.
        variables: Environment variables in addition to those that are always set.

    Raises:
        TargetError: QEMU is not installed.
    """
    qemu, env = shutil.which(QEMU[board.architecture]), shutil.which("env")
    if qemu is None or env is None:
        raise TargetError(f"{board.name}: {QEMU[board.architecture]} is not installed", hint="apt install qemu-user")
    assert board.emulation
    python = f"{HERE}/usr/bin/python{board.emulation.python}"
    given = {**_VARIABLES, "PYTHONPATH": f"{HERE}{site_path(environment)}", **variables}
    watched: list[str] = []
    if counting:
        # The plugin also replaces the clock. LD_PRELOAD accepts no blank in a path; the relative path has none.
        given["LD_PRELOAD"] = os.path.relpath(counting.plugin, folder)
        options = (part.replace(",", ",,") for part in (str(counting.plugin), f"out={counting.marks}"))
        watched = ["-U", "LD_PRELOAD", "-plugin", ",".join(options)]
    return [
        *(env, "--ignore-environment", f"--chdir={folder}", *(f"{k}={v}" for k, v in sorted(given.items()))),
        *(qemu, "-cpu", board.cpu, "-L", PREFIX, "-seed", "1"),
        *(*watched, python, *arguments),
    ]


def place_agent(prefix: Path) -> str:
    """Write the agent to the board, in a file that is named by its digest; return the file's path there.

    The file's folder holds nothing else: Python looks there first for modules, and the folder of an environment, such
    as ``openvino``, is a module to it.
    """
    text = agent_source().encode()
    path = prefix / "edgecnn" / "agent" / f"agent-{hashlib.sha256(text).hexdigest()[:16]}.py"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".agent-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        Path(partial).replace(path)
    return f"{HERE}/{path.relative_to(prefix)}"
