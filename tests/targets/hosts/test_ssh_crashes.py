"""Runtimes over ssh that crash or hang, and what becomes of them when the host ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from support.paths import TESTS
from support.processes import running, wait_until_gone
from support.ssh_device import X, artifact, noted
from support.sshd import needs_sshd

from edgecnn.errors import TargetError
from edgecnn.targets.hosts.channel import LostError

pytestmark = needs_sshd


def wait_for_exit(program):
    return program.communicate(timeout=60)


CRASHES = {
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
    "SIGILL": ("os.kill(os.getpid(), signal.SIGILL)", "crashed with SIGILL"),
    "SIGABRT": ("os.abort()", "crashed with SIGABRT"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "crashed with SIGKILL"),
    "exit": ("os._exit(3)", "ended with exit code 3 and without a whole answer"),
    "exit 255": ("os._exit(255)", "ended with exit code 255 and without a whole answer"),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_crashes_are_named(device, note, crash):
    statement, message = CRASHES[crash]
    with device.host().start() as connection:
        session = connection.open("tflite-runtime", artifact(note, f"os.write(2, b'words\\n'); {statement}"), "net")
        with pytest.raises(TargetError) as caught:
            session.infer([X])
    assert caught.value.message == f"net on tflite-runtime: {message}"
    assert "words" in caught.value.why
    assert "edgecnn" not in caught.value.why.replace("edgecnn-", "")  # nor the supervisor's marker
    assert not isinstance(caught.value, LostError)


def test_a_crash_shows_pythons_stack(device, note):
    with device.host().start() as connection, pytest.raises(TargetError) as caught:
        connection.open("tflite-runtime", artifact(note, "os.abort()"), "net").infer([X])
    assert "Fatal Python error: Aborted" in caught.value.why
    assert "in invoke" in caught.value.why


def test_exceptions_show_the_agents_lines(device, note):
    with device.host().start() as connection:
        session = connection.open("tflite-runtime", artifact(note, "raise RuntimeError('boom')"), "net")
        with pytest.raises(TargetError, match="net on tflite-runtime: boom") as caught:
            session.infer([X])
        assert "self._interpreter.invoke()" in caught.value.detail
        assert connection.hello()


HANGS = {
    "sleeps": "time.sleep(1000)",
    "holds Python": "ctypes.PyDLL(None).sleep(1000)",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "ignores signals": "for s in (1, 2, 13, 15):\n    signal.signal(s, signal.SIG_IGN)\ntime.sleep(1000)",
    "has started another": "import subprocess; subprocess.run(['sleep', '1000'])",
}


@pytest.mark.parametrize("hang", HANGS)
def test_hangs_end_with_the_time_limit(device, note, hang):
    with device.host().start() as connection:
        session = connection.open("tflite-runtime", artifact(note, HANGS[hang]), "net")
        with pytest.raises(TargetError, match="net on tflite-runtime: no answer within 1 s"):
            session.infer([X], time_limit=1)
        wait_until_gone(noted(note))


HOST_PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from edgecnn.targets.hosts.ssh import SshHost
with SshHost("device", config={config!r}, python=sys.executable).start() as connection:
    session = connection.open("tflite-runtime", {artifact!r}, "net")
    session.infer([np.ones(1, np.float32)])
"""


@contextmanager
def host_program(device, code):
    source = HOST_PROGRAM.format(tests=str(TESTS), config=str(device.config), artifact=code)
    started = subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.parametrize("hang", ["time.sleep(1000)", "ctypes.PyDLL(None).sleep(1000)"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_the_hosts_end_ends_it(device, note, hang, how):
    with host_program(device, artifact(note, hang)) as started:
        pid = noted(note)
        assert running(pid)
        started.send_signal(how)
        said = wait_for_exit(started)[1]
        assert ("KeyboardInterrupt" in said) == (how == signal.SIGINT)
        wait_until_gone(pid)


def test_an_interrupt_leaves_neither_connection_nor_folder(device, note, monkeypatch):
    runtime = device.folder / "run"  # a short path, as sockets need
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    with host_program(device, artifact(note, "time.sleep(1000)")) as started:
        noted(note)
        (folder,) = runtime.glob("edgecnn-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list(folder.iterdir())
        started.send_signal(signal.SIGINT)
        wait_for_exit(started)
    assert list(runtime.iterdir()) == []
