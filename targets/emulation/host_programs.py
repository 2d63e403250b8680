"""The programs that building needs: checks that they exist, and calls with a time limit."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.targets.boards import Board
from edgecnn.targets.printable import printable

QEMU: Mapping[str, str] = {"aarch64": "qemu-aarch64", "armv7l": "qemu-arm", "x86_64": "qemu-x86_64"}
"""The emulator of each architecture's programs."""

COMPILERS = ("cc", "gcc", "clang")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_LAST_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that emulation needs and this machine lacks.

    Attributes:
        what: What is missing, and its purpose.
        hint: The command that installs it.
        fatal: Whether the board does not work without it; otherwise only counting does not.
    """

    what: str
    hint: str
    fatal: bool = True


def emulation_problems(board: Board) -> list[Problem]:
    """Return what this machine lacks for an emulated board. What only counting needs is not fatal."""
    if board.emulation is None:
        return []
    qemu = QEMU[board.architecture]
    needs = (
        (shutil.which(qemu), f"{qemu} is not installed: it runs the board's programs", "apt install qemu-user"),
        (shutil.which("apt-get"), "apt-get is not installed: it downloads the userland", "a Debian system"),
        (shutil.which("dpkg-deb"), "dpkg-deb is not installed: it unpacks the userland", "apt install dpkg"),
        (KEYRING.exists(), f"{KEYRING} is not there: apt verifies Debian's packages with it",
         "apt install debian-archive-keyring"),
        (importlib.util.find_spec("pip"), f"{sys.executable} has no pip: it downloads and verifies the wheels",
         f"{sys.executable} -m ensurepip"),
    )  # fmt: skip
    found = [Problem(what=what, hint=hint) for there, what, hint in needs if not there]
    return found + counting_problems()


def counting_problems() -> list[Problem]:
    """Return what this machine lacks for counting instructions."""
    if compiler() is None:
        what = "there is no C compiler: QEMU's plugin that counts instructions is compiled from source"
        return [Problem(what=what, hint="apt install gcc libc6-dev", fatal=False)]
    return []


def compiler() -> str | None:
    """Return the path of a C compiler, if there is one."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def require(problems: Sequence[Problem], subject: str) -> None:
    """Raise an error for the first fatal problem.

    Raises:
        TargetError: There is a fatal problem.
    """
    for problem in problems:
        if problem.fatal:
            raise TargetError(f"{subject}: {problem.what}", hint=problem.hint)


def run_program(
    subject: str,
    command: Sequence[str],
    *,
    time_limit: float,
    environment: Mapping[str, str | None] | None = None,
    hint: str = "",
) -> str:
    """Run a program to its end and return its output. An interrupt kills it and all it has started.

    Args:
        subject: What the message of an error begins with.
        command: The program and its arguments.
        time_limit: Seconds until the program is killed.
        environment: Variables to set, or to remove if None.
        hint: What to try if it fails.

    Raises:
        TargetError: The program cannot be started, fails, or does not end in time.
    """
    changed = {**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
    variables = {name: value for name, value in changed.items() if value is not None}
    with ThreadPoolExecutor(1) as starter:
        # An interrupt reaches the main thread. Within Popen, it would leave a program that nobody knows.
        starting = starter.submit(_start, subject, command, variables, hint)
        try:
            process = starting.result()
            output = process.communicate(timeout=time_limit)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            raise TargetError(
                f"{subject}: {Path(command[0]).name} did not end within {time_limit:g} s", hint="check the network"
            ) from None
        finally:
            if starting.exception() is None:
                _kill_and_close(starting.result())
    if process.returncode:
        raise TargetError(
            f"{subject}: {_name(command)} failed with exit code {process.returncode}",
            why=f"its last words were\n{last_words(output)}",
            hint=hint,
            detail=printable(output),
        )
    return output


def _start(subject: str, command: Sequence[str], variables: Mapping[str, str], hint: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # a group of its own, to be killed as a whole
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=variables, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise TargetError(
            f"{subject}: cannot start {command[0]}", why=error.strerror or str(error), hint=hint
        ) from error


def _kill_and_close(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def last_words(output: str) -> str:
    """Return the last lines of a program's output, without what could move a terminal's cursor."""
    lines = [line for line in output.splitlines() if line.strip()]
    return printable("\n".join(lines[-_LAST_LINES:]))


def _name(command: Sequence[str]) -> str:
    return "pip" if "pip" in command[1:3] else Path(command[0]).name
