"""The agent by itself: the Pythons it runs under, and how it ends."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.agent_file import agent_file
from support.artifacts import GOOD, MODELS
from support.paths import ROOT
from support.processes import wait_until_gone

from edgecnn.errors import TargetError
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts import bootstrap
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost

SOURCE = agent_file()

# --- which Pythons ----------------------------------------------------------------------------------------------------

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
PLACES = "EDGECNN_TEST_PYTHONS"  # environments with numpy and perhaps a runtime, beside what PATH has: PATH's form


BUILT = sorted(map(str, ROOT.glob(".venv-agent-*/bin/python")))  # make pythons
NAMED = [*BUILT, *(part for part in os.environ.get(PLACES, "").split(os.pathsep) if part)]


BY_NAME = [f"python{v}" for v in PYTHONS if not any(f".venv-agent-{v}/" in path for path in BUILT)]


@pytest.mark.parametrize("python", [*BY_NAME, *NAMED])
def test_it_runs_under(python):
    path = shutil.which(python)
    if path is None or subprocess.run([path, "-c", "import numpy"], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no {python} with numpy")
    with LocalHost(path).start() as connection:
        info = connection.hello()
        assert connection.probe().python.endswith(info.python)
        for runtime in [name for name in MODELS if name in info.runtimes]:
            session = connection.open(runtime, MODELS[runtime](), "two")
            assert [output.shape for output in session.infer(GOOD)] == [(1, 4)] * 2


def test_its_source_is_one_file_for_python_3_9_with_numpy():
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in imported}
    assert tops - set(sys.stdlib_module_names) == {"numpy"}
    assert not tops & {"pickle", "marshal", "shelve", "ctypes"}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__"}


def test_it_needs_neither_torch_nor_edgecnn_nor_a_file():
    """As ssh brings it: from stdin, in an interpreter where nothing of ours can be imported."""
    blocked = (
        "import sys\nfor name in ('torch', 'click', 'onnx', 'edgecnn', 'msgspec'):\n    sys.modules[name] = None\n"
    )
    code = f"{blocked}exec(compile(sys.stdin.read({len(SOURCE.read_text())}), 'agent', 'exec'), globals())"
    request = b"".join(messages.encode_message("hello", {}))
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    with program:
        program.stdin.write(SOURCE.read_bytes())
        program.stdin.write(request)  # some of it may be read ahead, and is lost then
        program.stdin.flush()
        program.stdin.close()
        program.stdout.read()
    assert program.returncode == 0


def test_the_bootstrap_can_be_read_by_old_pythons():
    """No annotations, f-strings or walruses: an old Python must come as far as saying that it is old."""
    tree = ast.parse(bootstrap.BOOTSTRAP, feature_version=(3, 4))
    new = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.AsyncFunctionDef, ast.Nonlocal)
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]
    assert len(bootstrap.remote_command("python3", "m" * 39, 10**5, {"A": "0"})) < 4000


# --- how it ends ------------------------------------------------------------------------------------------------------

HUNG = """
import importlib.util, sys, ctypes, time
spec = importlib.util.spec_from_file_location("agent", {source!r})
agent = sys.modules["agent"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agent)
agent.GRACE = 0.5
agent.Agent._hello = lambda self, request: {hang}
sys.exit(agent.main())
"""
HANGS = {"sleeps": "time.sleep(1000)", "holds Python": "ctypes.PyDLL(None).sleep(1000)"}


def hung(hang):
    source = HUNG.format(source=str(SOURCE), hang=HANGS[hang])
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", source], stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.parametrize("hang", HANGS)
def test_it_ends_itself_past_a_requests_limit(hang):
    """A host that is cut off cannot end it."""
    with hung(hang) as program:
        program.stdin.write(b"".join(messages.encode_message("hello", {"limit": 0.1})))
        program.stdin.flush()
        assert program.stdout.read() == b""
        assert b"most recent call first" in program.stderr.read()
    assert program.returncode == -signal.SIGALRM


@pytest.mark.parametrize("limit", [-1, 0, 1e9, "1", True, None, [1]])
def test_odd_limits_do_no_harm(limit):
    with LocalHost().start() as connection:
        fields = {"limit": limit}
        connection._channel.child.limit(60)
        for part in messages.encode_message("hello", fields):
            connection._channel.child.write(part)
        assert messages.read_message(connection._channel.child).kind == "hello"


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_it_ends_when_nobody_listens(closed):
    with hung("sleeps") as program:
        program.stdin.write(b"".join(messages.encode_message("hello", {})))
        program.stdin.flush()
        time.sleep(0.5)
        getattr(program, closed).close()
        started = time.monotonic()
        program.wait(60)
    assert time.monotonic() - started < 30
    assert program.returncode == 0


def test_a_busy_agent_ends_when_its_host_is_killed(tmp_path):
    note = tmp_path / "pid"
    busy = HUNG.format(
        source=str(SOURCE), hang=f"(open({str(note)!r}, 'w').write(str(agent.os.getpid())), time.sleep(1000))"
    )
    host = f"""
import sys
from edgecnn.targets.hosts.connection import Connection
Connection([sys.executable, "-c", {busy!r}], name="busy").hello()
"""
    program = subprocess.Popen([sys.executable, "-c", host])
    while not (note.exists() and note.read_text()):
        time.sleep(0.05)
    program.send_signal(signal.SIGKILL)
    program.wait()
    wait_until_gone(int(note.read_text()))


@pytest.mark.parametrize(("version", "age", "cure"), [(0, "older", "there"), (7, "newer", "here")])
def test_other_versions_are_told_apart(version, age, cure):
    source = HUNG.format(source=str(SOURCE), hang="({}, [])").replace(
        "agent.GRACE", f"agent.PROTOCOL = {version}; agent.GRACE"
    )
    with Connection([sys.executable, "-c", source], name="here") as connection, pytest.raises(TargetError) as caught:
        connection.hello()
    assert caught.value.message == f"the agent on here: the agent on here speaks protocol {version}"
    assert caught.value.why.startswith(f"it is {age} than this edgecnn, which speaks protocol {messages.PROTOCOL}")
    assert caught.value.hint == f"update edgecnn {cure}" if cure == "here" else "update it there"
