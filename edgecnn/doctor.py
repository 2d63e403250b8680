"""What is installed here, what is missing for what, and the command that gets it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgecnn._version import __version__
from edgecnn.errors import EdgecnnError

GOOD, MISSING, BROKEN = "good", "missing", "broken"
OLDEST_PYTHON = (3, 11)
_TIME_LIMIT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What.
        state: ``good``, ``missing`` (something optional is not there), or ``broken`` (nothing works without it).
        found: What is there, or why it is not.
        needed_for: What it is for.
        hint: The command that gets it.
    """

    subject: str
    state: str
    found: str
    needed_for: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is broken; optional things may be missing."""
        return all(f.state != BROKEN for f in self.findings)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"schema": 1, "healthy": self.healthy, "findings": [asdict(f) for f in self.findings]}


def diagnose() -> Diagnosis:
    """Look at everything; downloads nothing and changes nothing."""
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _runtimes,
        _environments,
        _configuration,
        _programs,
        _boards,
        _disk,
    )
    return Diagnosis(tuple(finding for part in parts for finding in part()))


def _python() -> Iterator[Finding]:
    here = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info[:2] >= OLDEST_PYTHON
    yield Finding(
        subject="python",
        state=GOOD if fits else BROKEN,
        found=f"{here}, {sys.executable}",
        needed_for="edgecnn",
        hint="" if fits else "Python 3.11 or newer",
    )
    yield Finding(subject="edgecnn", state=GOOD, found=__version__)


def _packages() -> Iterator[Finding]:
    needed = {
        "torch": "capturing and training models",
        "numpy": "everything",
        "onnx": "writing ONNX",
        "flatbuffers": "writing TFLite",
        "pillow": "reading images",
    }
    for name, purpose in needed.items():
        try:
            yield Finding(subject=name, state=GOOD, found=version(name), needed_for=purpose)
        except PackageNotFoundError:
            hint = f"{sys.executable} -m pip install {name}"
            yield Finding(subject=name, state=BROKEN, found="not installed", needed_for=purpose, hint=hint)


def _runtimes() -> Iterator[Finding]:
    """The runtimes beside edgecnn. The agent is started, since being installed is not all."""
    from edgecnn.targets.hosts.local import LocalHost
    from edgecnn.targets.runtimes import RUNTIMES

    try:
        with LocalHost().start(time_limit=_TIME_LIMIT) as connection:
            here = connection.hello().runtimes
    except EdgecnnError as error:
        yield Finding(subject="agent", state=BROKEN, found=str(error), needed_for="check, predict", hint=error.hint)
        return
    for name, row in RUNTIMES.items():
        purpose = f"running {' and '.join(row.formats)} here"
        if name in here and row.installation != "environment":
            yield Finding(subject=name, state=GOOD, found=here[name] or "version not stated", needed_for=purpose)
        elif row.installation == "dependency":
            hint = f"{sys.executable} -m pip install {row.requirement}"
            yield Finding(subject=name, state=BROKEN, found="not installed", needed_for=purpose, hint=hint)


def _environments() -> Iterator[Finding]:
    from edgecnn.targets.environments import ENVIRONMENT_SPECS, find_environments
    from edgecnn.targets.runtimes import RUNTIMES

    there = find_environments()
    for name, spec in ENVIRONMENT_SPECS.items():
        if name not in there and find_spec(RUNTIMES[name].module) is not None:
            continue  # it is beside edgecnn
        purpose, command = f"{name}@local", f"edgecnn targets setup {name}"
        if name not in there:
            found = f"not set up ({spec.why})"
            yield Finding(subject=name, state=MISSING, found=found, needed_for=purpose, hint=command)
        elif not there[name].current:
            found = f"of other versions than this edgecnn's: {', '.join(there[name].requirements)}"
            yield Finding(subject=name, state=MISSING, found=found, needed_for=purpose, hint=command)
        else:
            found = f"{there[name].requirements[0].partition('==')[2]}, {there[name].folder}"
            yield Finding(subject=name, state=GOOD, found=found, needed_for=purpose)


def _configuration() -> Iterator[Finding]:
    from edgecnn.targets.config import load_config

    try:
        config = load_config()
    except EdgecnnError as error:
        yield Finding(subject="targets.toml", state=BROKEN, found=str(error), needed_for="--target", hint=error.hint)
        return
    named = [entry.name for entry in config.hosts.values() if entry.origin != "edgecnn"]
    files = ", ".join(map(str, config.files))
    found = f"{', '.join(named) or 'no hosts'} in {files}" if files else "none: only this machine and emulated boards"
    yield Finding(subject="targets.toml", state=GOOD, found=found, needed_for="--target @NAME")


def _programs() -> Iterator[Finding]:
    from edgecnn.targets.emulation.host_programs import COMPILERS, QEMU

    wanted = {
        "ssh": (("ssh",), "hosts over ssh", "apt install openssh-client"),
        "qemu-user": (tuple(sorted(set(QEMU.values()))), "emulated boards", "apt install qemu-user"),
        "C compiler": (COMPILERS, "counting instructions on emulated boards", "apt install gcc libc6-dev"),
    }
    for subject, (names, purpose, hint) in wanted.items():
        paths = {name: path for name in names if (path := shutil.which(name))}
        enough = bool(paths) if subject == "C compiler" else len(paths) == len(names)
        if enough:
            name, path = next(iter(paths.items()))
            yield Finding(subject=subject, state=GOOD, found=_version_line(path) or name, needed_for=purpose)
        else:
            lacking = ", ".join(name for name in names if name not in paths)
            found = f"{lacking}: not on the path"
            yield Finding(subject=subject, state=MISSING, found=found, needed_for=purpose, hint=hint)


def _version_line(path: str) -> str:
    flag = "-V" if Path(path).name == "ssh" else "--version"
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip()[:80] if lines else ""


def _boards() -> Iterator[Finding]:
    from edgecnn.targets.boards import load_boards
    from edgecnn.targets.emulation import emulation_problems, is_built

    boards = [board for board in load_boards().values() if board.kind == "emulated"]
    problems = {p.what: p for board in boards for p in emulation_problems(board) if p.fatal}
    for problem in problems.values():
        if "qemu" not in problem.what:  # it has a finding of its own
            yield Finding(
                subject="emulation", state=MISSING, found=problem.what, needed_for="building boards", hint=problem.hint
            )
    built = [board.name for board in boards if is_built(board)]
    rest = [board.name for board in boards if board.name not in built]
    yield Finding(
        subject="boards",
        state=GOOD if built else MISSING,
        found=f"built: {', '.join(built) or 'none'}; can be built: {', '.join(rest) or 'none'}",
        needed_for="targets without the hardware",
        hint=f"edgecnn targets emulate {rest[0]}" if rest and not built else "",
    )


def _disk() -> Iterator[Finding]:
    from edgecnn.targets.emulation.cache import cache_folder
    from edgecnn.targets.environments import environments_folder

    for subject, folder in (("emulation cache", cache_folder()), ("environments", environments_folder())):
        found = f"{size_of(folder) / 2**20:,.0f} MiB in {folder}" if folder.is_dir() else f"empty ({folder})"
        yield Finding(subject=subject, state=GOOD, found=found)


def size_of(folder: Path) -> int:
    """Bytes that a folder's files take; a file with two names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                status = os.lstat(Path(root, name))
            except OSError:
                continue
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())
