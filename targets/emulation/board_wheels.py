"""Wheels for another machine, downloaded and verified by pip, unpacked into a folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.targets.emulation.host_programs import run_program

PINS = Path(__file__).with_name("wheels.txt")
"""The wheels that a board may name, with their hashes, in pip's format."""

_PLATFORMS = ("manylinux_2_35", "manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_TIME_LIMIT = 900.0
# Clear the user's settings of destinations and versions; those of package indexes apply.
_ENVIRONMENT: Mapping[str, str | None] = {
    **dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_REPORT")),
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
}


def unpack_wheels(architecture: str, python: str, wheels: Sequence[str], folder: Path) -> None:
    """Download wheels and unpack them into an empty folder.

    Args:
        architecture: The board's output of ``uname -m``.
        python: The version of Python that the wheels are for: ``3.11``.
        wheels: Pinned wheels, each with a row in `PINS`.
        folder: The folder to unpack into.

    Raises:
        TargetError: pip failed.
        OSError: The folder cannot be written.
    """
    requirements = folder.with_name(f"{folder.name}.txt")
    requirements.write_text(requirements_of(wheels))
    digits = python.replace(".", "")
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--no-compile", "--require-hashes", "--only-binary=:all:", "--progress-bar=off"),
        *("--python-version", python, "--implementation", "cp"),
        *(part for abi in (f"cp{digits}", "abi3", "none") for part in ("--abi", abi)),
        *(part for platform in _PLATFORMS for part in ("--platform", f"{platform}_{architecture}")),
        *("--target", str(folder), "--requirement", str(requirements)),
    ]
    hint = "check the network and pip's index (pip config list), then try again"
    try:
        run_program(f"{architecture} wheels", command, time_limit=_TIME_LIMIT, environment=_ENVIRONMENT, hint=hint)
    finally:
        requirements.unlink()


def requirements_of(wheels: Sequence[str]) -> str:
    """Return the rows of `PINS` for wheels.

    Raises:
        TargetError: A wheel has no row.
    """
    rows = pinned_wheels()
    for wheel in wheels:
        if wheel not in rows:
            raise TargetError(f"{wheel} has no row with its hashes", where=str(PINS))
    return "".join(f"{rows[wheel]}\n" for wheel in wheels)


def pinned_wheels() -> dict[str, str]:
    """Return the rows of `PINS` by the wheel that they pin."""
    text = re.sub(r"\\\n\s*", "", PINS.read_text("utf-8"))
    return {row.split()[0]: row for row in text.splitlines() if row and not row.startswith("#")}
