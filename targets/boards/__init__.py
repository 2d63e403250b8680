"""The boards that artifacts run on, one TOML file each: what they are, which runtimes they have, how they are emulated.

Adding a board is adding a file beside this one. Nothing else names boards.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec

from edgecnn.errors import UsageError
from edgecnn.targets.runtimes import RUNTIMES

HERE = Path(__file__).parent


class Frequency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a core, in MHz."""

    max: int
    min: int


class MacsPerCycle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Multiply-accumulates that a core's vector units can start in each cycle; the file says where that is from."""

    float32: int
    int8: int


class Caches(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes in KiB; first-level caches are a core's own, a third level is shared by all."""

    data: int
    instructions: int
    second: int
    second_shared: bool
    third: int | None = None


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an Arm board's ``/proc/cpuinfo`` and device tree say.

    Attributes:
        model: The board's name, as the device tree has it.
        revision_code: Of the board.
        part: Of the core, as ``0xd0b``; the implementer is Arm itself.
        variant: The ``r`` of the core's ``r1p2``.
        revision: The ``p`` of it.
        bogomips: As the kernel prints them.
    """

    model: str
    revision_code: str
    part: str
    variant: int
    revision: int
    bogomips: str


class X86(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an x86 machine's ``/proc/cpuinfo`` says."""

    model_name: str
    vendor: str
    family: int
    model: int
    stepping: int


class BoardEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An interpreter's packages.

    Attributes:
        name: Empty for the default one, else the runtime that it is for.
        wheels: Pinned, as ``numpy==2.4.6``; each has its SHA-256 in ``emulation/wheels.txt``.
    """

    name: str
    wheels: tuple[str, ...]


class Emulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a board is built from a distribution's packages and from wheels.

    Attributes:
        suite: Of Debian.
        python: Its Python, which wheels are chosen for.
        packages: Installed with what they depend on.
        links: Symbolic links that installation scripts would make: path in the userland -> where it points to.
        environments: The default one first.
    """

    suite: str
    python: str
    packages: tuple[str, ...]
    environments: tuple[BoardEnvironment, ...]
    links: dict[str, str] = {}


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A board.

    Attributes:
        name: What the user writes; the file's name.
        title: What a person calls it.
        kind: ``emulated``, or ``local`` for this machine, of which nothing is known beforehand.
        architecture: As ``uname -m`` has it; ``any`` for the local one.
        cpu: QEMU's name of the core, which the other facts agree with.
        features: As ``/proc/cpuinfo`` lists them.
        memory_mb: In MiB.
        cores: How many.
        frequency_mhz: Lowest and highest.
        macs_per_cycle: What a core can do at best; None where nobody has published it.
        runtimes: Versions by name, of those that it has.
        missing: By name, why there are no others.
        caches: Sizes.
        arm: Facts of an Arm board.
        x86: Facts of an x86 machine.
        emulation: How it is built.
    """

    name: str
    title: str
    kind: Literal["emulated", "local"]
    architecture: Literal["aarch64", "armv7l", "x86_64", "any"]
    runtimes: dict[str, str]
    missing: dict[str, str]
    cpu: str = ""
    features: tuple[str, ...] = ()
    memory_mb: int = 0
    cores: int = 0
    frequency_mhz: Frequency | None = None
    macs_per_cycle: MacsPerCycle | None = None
    caches: Caches | None = None
    arm: Arm | None = None
    x86: X86 | None = None
    emulation: Emulation | None = None

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of its environments; the default one is the first, and empty."""
        return tuple(e.name for e in self.emulation.environments) if self.emulation else ("",)


def load_board(name: str) -> Board:
    """Return a board.

    Raises:
        UsageError: There is none of this name, or its file is wrong.
    """
    boards = load_boards()
    if name not in boards:
        near = difflib.get_close_matches(name, boards, n=1)
        guess = f"{near[0]}? " if near else ""
        raise UsageError(f"there is no board {name!r}", hint=f"{guess}the boards are {', '.join(boards)}")
    return boards[name]


@functools.cache
def load_boards(folder: Path = HERE) -> Mapping[str, Board]:
    """Return all boards by name, in the order of their names.

    Raises:
        UsageError: A file is wrong.
    """
    return MappingProxyType({path.stem: read_board(path) for path in sorted(folder.glob("*.toml"))})


def read_board(path: Path) -> Board:
    """Read a board's file.

    Raises:
        UsageError: It cannot be read, has a key that no board has, or lacks one, or they contradict each other.
    """
    try:
        board = msgspec.toml.decode(path.read_bytes(), type=Board)
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read", where=str(path), why=error.strerror or str(error)) from error
    except msgspec.DecodeError as error:  # its message names the key
        raise UsageError(f"{path.name} describes no board: {error}", where=str(path)) from error
    for problem in _problems(board, path.stem):
        raise UsageError(f"{path.name} describes no board: {problem}", where=str(path))
    return board


def _problems(board: Board, name: str) -> Iterable[str]:
    if board.name != name:
        yield f"name is {board.name!r}, the file's is {name!r}"
    if unknown := (set(board.runtimes) | set(board.missing)) - set(RUNTIMES):
        yield f"there is no runtime {', '.join(sorted(unknown))}"
    if both := set(board.runtimes) & set(board.missing):
        yield f"{', '.join(sorted(both))} is both in runtimes and in missing"
    yield from _emulated_problems(board) if board.kind == "emulated" else _local_problems(board)


def _local_problems(board: Board) -> Iterable[str]:
    empty = Board(name=board.name, title=board.title, kind="local", architecture="any", runtimes={}, missing={})
    if board != empty:
        yield "of the local machine nothing but its name and title is known beforehand"


def _emulated_problems(board: Board) -> Iterable[str]:
    facts = {"aarch64": "arm", "armv7l": "arm", "x86_64": "x86"}.get(board.architecture, "")
    if not facts:
        yield f"architecture is {board.architecture!r}"
    needed = ("cpu", "features", "memory_mb", "cores", "frequency_mhz", "caches", "emulation", facts)
    for key in needed:
        if not getattr(board, key or "architecture"):
            yield f"{key} is missing"
    for key in {"arm", "x86"} - {facts}:
        if getattr(board, key):
            yield f"{key} is of another architecture than {board.architecture}"
    for runtime in RUNTIMES:
        if runtime not in board.runtimes and runtime not in board.missing:
            yield f"{runtime} is neither in runtimes nor in missing"
    if board.emulation:
        yield from _environment_problems(board.runtimes, board.emulation.environments)


def _environment_problems(runtimes: Mapping[str, str], environments: tuple[BoardEnvironment, ...]) -> Iterable[str]:
    names = [e.name for e in environments]
    if names[:1] != [""] or len(set(names)) != len(names) or not set(names[1:]) <= set(runtimes):
        yield f"emulation.environments are {names}, not the default one and then one for a runtime each"
    pins = {e.name: e.wheels for e in environments}
    for runtime, version in runtimes.items():
        pin = f"{RUNTIMES[runtime].distribution}=={version}"
        if pin not in pins.get(runtime, pins.get("", ())):
            yield f"runtimes.{runtime} is {version}, but its environment has no wheel {pin}"
