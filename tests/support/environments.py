"""The environments in which other runtimes than those of these tests' own environment are installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.paths import ROOT

from edgecnn.targets.hosts.local import LocalHost

PYTHONS: Mapping[str, str] = MappingProxyType(
    {
        "tflite-runtime": "EDGECNN_TFLITE_RUNTIME_PYTHON",
        "tflite-micro": "EDGECNN_TFLITE_MICRO_PYTHON",
        "openvino": "EDGECNN_OPENVINO_PYTHON",
    }
)
"""The variable that names the interpreter of a runtime's environment; otherwise ``make runtimes`` has made it as
``.venv-RUNTIME`` in the checkout."""


def python_of(runtime: str) -> str | None:
    """The interpreter that has a runtime: this one, that of its own environment, or None where there is none."""
    if runtime not in PYTHONS:
        return sys.executable
    default = ROOT / f".venv-{runtime}" / "bin" / "python"
    python = os.environ.get(PYTHONS[runtime]) or str(default)
    return python if Path(python).exists() else None


def python_or_skip(runtime: str) -> str:
    """The interpreter that has a runtime; where there is none, the test is skipped."""
    python = python_of(runtime)
    if python is None:
        pytest.skip(f"{PYTHONS[runtime]} is not set, and there is no .venv-{runtime} in the checkout: make runtimes")
    return python


class Agents:
    """The agent of each runtime, started once: ``agents("tflite-micro")``.

    Args:
        own: The agent in the environment of these tests.
        stack: Closes the other agents.
    """

    def __init__(self, own: Any, stack: ExitStack) -> None:
        self._own, self._stack = own, stack
        self._started: dict[str, Any] = {}

    def __call__(self, runtime: str) -> Any:
        """The agent that has a runtime; where there is none, the test is skipped."""
        if runtime not in PYTHONS:
            return self._own
        if runtime not in self._started:
            connection = self._stack.enter_context(LocalHost(python_or_skip(runtime)).start())
            assert runtime in connection.hello().runtimes, f"{runtime} is not installed where {PYTHONS[runtime]} points"
            self._started[runtime] = connection
        return self._started[runtime]
