"""A device reached through a real ssh server, and programs that stand in for an agent."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest
from support.agent_programs import PREAMBLE
from support.processes import running, wait_until_gone
from support.ssh_device import FAKE_RUNTIME
from support.sshd import sshd

from edgecnn.targets.hosts.connection import Connection


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


@pytest.fixture
def started(monkeypatch):
    """Every connection the test starts; none may be left running when it ends."""
    pids = []
    original = Connection.__init__

    def recording(self, *args, **kwargs):
        original(self, *args, **kwargs)
        pids.append(self.pid)

    monkeypatch.setattr(Connection, "__init__", recording)
    yield pids
    assert [pid for pid in pids if running(pid)] == []


@pytest.fixture
def script(tmp_path, started):
    """Start a connection to a Python program."""

    def start(source, **kwargs):
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source))
        return Connection([sys.executable, str(path)], name="here", python="python3.9", **kwargs)

    return start


@pytest.fixture
def fake(script):
    """Start an agent with a runtime named fake, whose `infer` is the given statements; y is what they leave."""

    def start(statements, **kwargs):
        body = textwrap.indent(textwrap.dedent(statements), " " * 8)
        return script(
            f"""{PREAMBLE}
class Fake:
    version = "1"
    arena_bytes = None
    inputs = [agent.SessionTensor("x", [None], "float32", None)]
    outputs = [agent.SessionTensor("y", [None], "float32", None)]
    def __init__(self, module, artifact, options):
        self.artifact = artifact
    def infer(self, arrays):
        y = arrays[0]
{body}
        return [y]
agent.RUNTIME_TABLE["fake"] = agent.RuntimeRow("json", "json", {{}}, Fake)
sys.exit(agent.main())
""",
            **kwargs,
        )

    return start
