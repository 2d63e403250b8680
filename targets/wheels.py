"""Which wheel of a runtime fits a machine and a Python, and what to say where none does.

The runtimes' descriptors repeat what the package index offers; it changes a few times a year, and so do they.
"""

from __future__ import annotations

import re

from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.runtimes.runtime_descriptor import Version, Wheels

KNOWN_ON = "November 2026"
"""When the descriptors were last compared with the index."""


def fitting(runtime: str, machine: str, python_version: str) -> Wheels | None:
    """Return the newest wheels of a runtime for a machine and a Python, or None where there are none."""
    python = _version(python_version)
    for wheels in RUNTIMES[runtime].wheels:
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
        pip: How the user calls pip there.
    """
    if runtime not in RUNTIMES:
        return f"one of {', '.join(RUNTIMES)}"
    found = fitting(runtime, machine, python_version)
    if found is not None:
        wanted = f"{RUNTIMES[runtime].distribution} {found.extra_requirements}".strip()
        return f"{pip} install {wanted}"
    return f"{_why_none(runtime, machine, python_version)}{_instead(runtime, machine, python_version)}"


def _why_none(runtime: str, machine: str, python_version: str) -> str:
    rows = [wheels for wheels in RUNTIMES[runtime].wheels if machine in wheels.machines]
    if not rows:
        machines = sorted({name for wheels in RUNTIMES[runtime].wheels for name in wheels.machines})
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
