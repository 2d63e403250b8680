"""Which wheels of a runtime exist: for which machines and Pythons, and what to say where there is none.

The rows repeat what the package index offers; it changes a few times a year, and so do they.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecnn.targets.runtimes import RUNTIMES

Version = tuple[int, int]

KNOWN_ON = "November 2026"
"""When the table was last compared with the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """Wheels that one release of a runtime has.

    Attributes:
        release: The release: the newest that these machines and Pythons can have.
        machines: As ``uname -m`` has them.
        pythons: The oldest and the newest Python.
        glibc: The oldest GNU C library.
        beside: What else pip has to be told.
    """

    release: str
    machines: tuple[str, ...]
    pythons: tuple[Version, Version]
    glibc: Version
    beside: str = ""


_64_BIT = ("x86_64", "aarch64")
_NUMPY_1 = "numpy==1.26.4"  # the last before 2; and nothing in it that a shell, or two in a row, would read
WHEELS: Mapping[str, tuple[Wheels, ...]] = MappingProxyType(
    {
        "onnxruntime": (
            Wheels(release="1.31.1", machines=_64_BIT, pythons=((3, 11), (3, 14)), glibc=(2, 28)),
            Wheels(release="1.23.2", machines=_64_BIT, pythons=((3, 10), (3, 10)), glibc=(2, 28)),
            Wheels(release="1.19.2", machines=_64_BIT, pythons=((3, 9), (3, 9)), glibc=(2, 28)),
        ),
        "litert": (
            Wheels(release="2.3.0", machines=_64_BIT, pythons=((3, 10), (3, 14)), glibc=(2, 27)),
            Wheels(release="2.1.0", machines=_64_BIT, pythons=((3, 9), (3, 9)), glibc=(2, 27)),
        ),
        "tflite-runtime": (
            Wheels(
                release="2.14.0",
                machines=("aarch64", "armv7l"),
                pythons=((3, 9), (3, 11)),
                glibc=(2, 34),
                beside=_NUMPY_1,
            ),
            Wheels(release="2.14.0", machines=("x86_64",), pythons=((3, 9), (3, 11)), glibc=(2, 17), beside=_NUMPY_1),
        ),
        "tflite-micro": (
            Wheels(release="0.dev20261023182759", machines=("x86_64",), pythons=((3, 10), (3, 14)), glibc=(2, 28)),
        ),
    }
)
"""The rows of each runtime, the newest release first."""


def fitting(runtime: str, machine: str, python_version: str) -> Wheels | None:
    """Return the newest wheels of a runtime for a machine and a Python, or None where there are none."""
    python = _version(python_version)
    for wheels in WHEELS.get(runtime, ()):
        low, high = wheels.pythons
        if machine in wheels.machines and python is not None and low <= python <= high:
            return wheels
    return None


def advice(runtime: str, machine: str, python_version: str, *, pip: str = "python3 -m pip") -> str:
    """Return how to get a runtime: the command where a wheel fits, else what there is and where.

    Args:
        runtime: A name in `RUNTIMES`.
        machine: As ``uname -m`` has it (`AgentInfo.wheel_machine`: 32-bit programs may run on a 64-bit kernel).
        python_version: As ``3.11.2``.
        pip: How pip is called there.
    """
    if runtime not in RUNTIMES:
        return f"one of {', '.join(RUNTIMES)}"
    found = fitting(runtime, machine, python_version)
    if found is not None:
        wanted = f"{RUNTIMES[runtime].distribution} {found.beside}".strip()
        return f"{pip} install {wanted}"
    return f"{_why_none(runtime, machine, python_version)}{_instead(runtime, machine, python_version)}"


def _why_none(runtime: str, machine: str, python_version: str) -> str:
    rows = [wheels for wheels in WHEELS[runtime] if machine in wheels.machines]
    if not rows:
        machines = sorted({name for wheels in WHEELS[runtime] for name in wheels.machines})
        return f"there is no wheel of {runtime} for {machine}, only for {_listed(machines, 'and')}"
    low, high = min(wheels.pythons[0] for wheels in rows), max(wheels.pythons[1] for wheels in rows)
    return f"on {machine}, {runtime} has wheels for Python {_dotted(low)} to {_dotted(high)}, not {python_version}"


def _instead(runtime: str, machine: str, python_version: str) -> str:
    formats = set(RUNTIMES[runtime].formats)
    others = [
        name
        for name, row in RUNTIMES.items()
        if name != runtime and formats & set(row.formats) and fitting(name, machine, python_version)
    ]
    if others:
        return f"; {_listed(others, 'or')} would run the same files there"
    anything = [name for name in RUNTIMES if name != runtime and fitting(name, machine, python_version)]
    return f"; what fits there is {_listed(anything, 'or')}" if anything else ""


def _version(text: str) -> Version | None:
    found = re.match(r"(\d{1,4})\.(\d{1,4})", text)
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _listed(names: list[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
