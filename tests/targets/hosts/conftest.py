"""A device behind a real ssh server, shared by the tests of this folder."""

from __future__ import annotations

import os

import pytest
from support.processes import wait_until_gone
from support.ssh_device import FAKE_RUNTIME
from support.sshd import sshd


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """PYTHONPATH for devices: a folder with the fake runtime."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "tflite_runtime").mkdir()
    (folder / "tflite_runtime" / "__init__.py").write_text("__version__ = '0'")
    (folder / "tflite_runtime" / "interpreter.py").write_text(FAKE_RUNTIME)
    own = os.environ.get("PYTHONPATH", "")  # the interpreter that runs the tests may find its packages by it
    return f"{folder}:{own}" if own else str(folder)


@pytest.fixture(scope="session")
def device(packages):
    with sshd(variables={"PYTHONPATH": packages}) as server:
        yield server


@pytest.fixture
def note(tmp_path):
    """A file in which an artifact notes the process that it runs in; none such may be left."""
    path = tmp_path / "pid"
    yield path
    if path.exists():
        wait_until_gone(int(path.read_text()))
