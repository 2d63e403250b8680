"""Devices behind a real ssh server: what works, every way it fails, and that nothing is left on either side."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.artifacts import onnx_model
from support.paths import TESTS
from support.processes import running, wait_until_gone
from support.sshd import needs_sshd, sshd

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts import bootstrap, ssh_master
from edgecnn.targets.hosts.connection import LostError
from edgecnn.targets.hosts.host import survey
from edgecnn.targets.hosts.reconnect import open_steady
from edgecnn.targets.hosts.ssh import SshHost
from edgecnn.targets.hosts.ssh_failures import FAILURES

X = np.array([1], np.float32)
FAKE_RUNTIME = '''
"""A runtime whose artifacts are Python statements; they run at each inference."""
import numpy as np
class OpResolverType:
    BUILTIN = BUILTIN_REF = BUILTIN_WITHOUT_DEFAULT_DELEGATES = 0
class Interpreter:
    def __init__(self, model_content, num_threads, experimental_op_resolver_type):
        self.code = compile(bytes(model_content), "artifact", "exec")
    def allocate_tensors(self):
        pass
    def get_input_details(self):
        quantization = {"scales": [], "zero_points": []}
        shape = np.array([1])
        return [{"name": "x", "index": 0, "shape": shape, "shape_signature": shape, "dtype": np.float32,
                 "quantization_parameters": quantization}]
    get_output_details = get_input_details
    def _get_full_signature_list(self):
        return {}
    def set_tensor(self, index, value):
        self.x = value
    def invoke(self):
        exec(self.code)
    def get_tensor(self, index):
        return self.x
'''
STATEMENTS = "import ctypes, os, signal, time\nopen({note!r}, 'w').write(str(os.getpid()))\n"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """PYTHONPATH for devices: a folder with the fake runtime."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "tflite_runtime").mkdir()
    (folder / "tflite_runtime" / "__init__.py").write_text("__version__ = '0'")
    (folder / "tflite_runtime" / "interpreter.py").write_text(FAKE_RUNTIME)
    own = os.environ.get("PYTHONPATH", "")  # the interpreter that runs the tests may find its packages by it
    return f"{folder}:{own}" if own else str(folder)


@pytest.fixture(scope="module")
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


def artifact(note, statements):
    return (STATEMENTS.format(note=str(note)) + statements).encode()


def noted(note):
    """The process id, once there is one."""
    for _ in range(1000):
        if note.exists() and note.read_text():
            return int(note.read_text())
        time.sleep(0.02)
    return pytest.fail("nothing was noted")


def wait_for_exit(program):
    return program.communicate(timeout=60)


pytestmark = needs_sshd


# --- what works -------------------------------------------------------------------------------------------------------


def test_everything_a_connection_can_do(device):
    with device.host().start() as connection:
        info = connection.hello()
        assert (info.protocol, info.bits) == (messages.PROTOCOL, 64)
        assert {"onnxruntime", "litert", "tflite-runtime"} <= set(info.runtimes)
        probed = connection.probe()
        assert probed.cores == os.cpu_count()
        assert probed.python.endswith(sys.version.split()[0])
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        with connection.open("onnxruntime", onnx_model(), "two.onnx") as session:
            total, relu = session.infer([x, -x])
        assert (total == 0).all()
        assert (relu == 0).all()
        assert session.notes == ()


def test_survey(device):
    host = device.host(pythons={"tflite-runtime": "no-such-python"})
    found = survey(host)
    assert (host.name, host.kind, host.environments) == ("kitchen", "ssh", ("", "tflite-runtime"))
    assert "onnxruntime" in found.runtimes
    assert found.problems["tflite-runtime"].message == "kitchen: there is no no-such-python"


def test_the_environment_there(device, note):
    seen = "open({!r}, 'w').write(repr(dict(os.environ)))".format(str(note) + ".env")
    with device.host().start() as connection:
        connection.open("tflite-runtime", artifact(note, seen), "net").infer([X])
    told = Path(str(note) + ".env").read_text()
    assert "'PYTHONHASHSEED': '0'" in told
    assert "'ORT_DISABLE_TELEMETRY': '1'" in told


SHELLS = [name for name in ("sh", "bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh") if shutil.which(name)]


@pytest.mark.parametrize("shell", SHELLS)
def test_login_shells(shell):
    with sshd(shell=shutil.which(shell)) as server:
        (server.home / "venv").symlink_to(Path(sys.executable).parent)
        with server.host(python="~/venv/python").start() as connection:
            assert connection.hello().python


NOISES = {
    "bash": ("bash", ".bashrc", "echo 'Welcome to Raspbian'; printf 'no end of line'; echo to stderr >&2"),
    "much": ("bash", ".bashrc", "head -c 20000 /dev/zero | tr '\\0' '.'"),
}


@pytest.mark.parametrize("noise", NOISES)
def test_shells_that_print(noise):
    shell, file, statements = NOISES[noise]
    with sshd(shell=shell) as server:
        (server.home / file).write_text(statements)
        with server.host().start() as connection:
            assert connection.hello()
        ssh = ["ssh", "-F", str(server.config), "device", "true"]
        heard = subprocess.run(ssh, capture_output=True, check=True).stdout
    assert heard  # else nothing was proven


def test_a_shell_that_prints_without_end():
    with sshd("yes | head -c 10000000 ;") as server:
        with pytest.raises(TargetError, match="kitchen: its start-up files print without end") as caught:
            server.host().start()
        assert "y\ny\n" in caught.value.why


def test_many_sessions_share_one_connection(device):
    before = device.logins()
    host = device.host(connect_timeout=11)  # a connection of this test's own

    def run(index):
        with host.start() as connection:
            session = connection.open("tflite-runtime", b"pass", "net")
            return float(session.infer([X * index])[0][0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == list(range(8))
    assert device.logins() == before + 1


def test_more_sessions_than_one_connection_may_have(device):
    with ThreadPoolExecutor(12) as pool:
        connections = list(pool.map(lambda _: device.host().start(), range(12)))
    for connection in connections:
        assert connection.hello()
        connection.close()


def test_many_hosts_at_once(packages):
    with sshd() as one, sshd() as two, ThreadPoolExecutor(4) as pool:
        hosts = [one.host(label="one"), two.host(label="two")] * 2

        def machine(host):
            with host.start() as connection:
                return connection.hello().machine

        assert list(pool.map(machine, hosts)) == [os.uname().machine] * 4
        assert (one.logins(), two.logins()) == (1, 1)


# --- who it lets in, and where it leads -------------------------------------------------------------------------------


def refusal(server, **kwargs):
    with pytest.raises(TargetError) as caught:
        server.host(**kwargs).start()
    return caught.value


@pytest.fixture(scope="module")
def door():
    """A server for tests that change its keys."""
    with sshd() as server:
        yield server


def test_an_unknown_host_key_is_not_accepted(door):
    door.know()
    error = refusal(door)
    assert error.message == "kitchen: its host key is not known here"
    assert "`ssh device` once by hand, and compare the fingerprint" in error.hint
    assert "Host key verification failed" in error.detail
    assert (door.folder / "known_hosts").read_text() == ""
    door.know(door.folder / "host_key.pub")


def test_a_changed_host_key_is_not_accepted(door):
    door.know(door.folder / "other_key.pub")
    error = refusal(door)
    assert error.message == "kitchen: it shows another host key than the known one"
    assert "ssh-keygen -R device" in error.hint
    door.know(door.folder / "host_key.pub")


@pytest.mark.parametrize("answer", ["no", "accept-new"])
def test_a_lax_configuration_does_not_hold(door, tmp_path, answer):
    door.know()
    config = tmp_path / "config"
    config.write_text(f"Host *\n StrictHostKeyChecking {answer}\n{door.config.read_text()}")
    assert refusal(door, config=str(config)).message == "kitchen: its host key is not known here"
    door.know(door.folder / "host_key.pub")


def test_a_key_that_is_refused(door, tmp_path):
    config = tmp_path / "config"
    config.write_text(door.config.read_text().replace("/key\n", "/other_key\n"))
    error = refusal(door, config=str(config))
    assert error.message == "kitchen: it refuses the keys it was offered"
    assert "ssh-copy-id device" in error.hint
    assert "Permission denied (publickey)" in error.detail


def test_an_identity_of_ones_own(door, tmp_path):
    config = tmp_path / "config"
    config.write_text(door.config.read_text().replace("/key\n", "/other_key\n"))
    # Given on the command line, it goes first; IdentityFile of the configuration is still there.
    with door.host(config=str(config), identity=str(door.folder / "key")).start() as connection:
        assert connection.hello()


def test_an_address_and_a_port_instead_of_a_name(door):
    host = SshHost.from_url(f"ssh://127.0.0.1:{door.port}")
    host = SshHost(host.destination, port=host.port, config=str(door.config), identity=str(door.folder / "key"))
    door.know()
    with pytest.raises(TargetError) as caught:
        host.start()
    assert f"`ssh -p {door.port} 127.0.0.1` once by hand" in caught.value.hint
    door.know(door.folder / "host_key.pub")


def test_a_jump_host(door, tmp_path):
    config = tmp_path / "config"
    proxy = f"ProxyCommand ssh -F {door.config} -W 127.0.0.1:{door.port} device"
    config.write_text(door.config.read_text().replace("Host device\n", f"Host device\n    {proxy}\n"))
    with door.host(config=str(config)).start() as connection:
        assert connection.hello()


def test_nothing_listens(door):
    from support.sshd import _free_port

    error = refusal(door, port=_free_port())
    assert error.message == "kitchen: it refuses connections: no ssh server listens there"


def test_a_name_that_cannot_be_resolved(door):
    with pytest.raises(TargetError) as caught:
        SshHost("pi@nobody.invalid", config=str(door.config)).start()
    assert caught.value.message == "pi@nobody.invalid: its name cannot be resolved"


def test_a_server_that_says_nothing(door, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        error = refusal(door, port=silent.getsockname()[1], connect_timeout=1)
    assert error.message == "kitchen: it does not answer"
    assert time.monotonic() - started < 10


def test_a_proxy_that_hangs_is_killed(door, tmp_path, monkeypatch, note):
    monkeypatch.setattr("edgecnn.targets.hosts.ssh._LOGIN", 0.0)
    config = tmp_path / "config"
    hang = f"ProxyCommand sh -c 'echo $$ > {note}; exec sleep 1000'"
    config.write_text(f"Host device\n {hang}\n ConnectTimeout 100\n{door.config.read_text()}")
    error = refusal(door, config=str(config), connect_timeout=2)
    assert error.message in ("kitchen: no login within 2 s", "kitchen: it does not answer")


def test_a_configuration_that_ssh_cannot_use(door, tmp_path):
    config = tmp_path / "config"
    config.write_text("NoSuchOption yes\n")
    error = refusal(door, config=str(config))
    assert error.message == "kitchen: ssh cannot use its own configuration"
    assert f"{config}" in error.detail


def test_no_ssh_here(door, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refusal(door, connect_timeout=12)
    assert error.message == "ssh cannot be started here"
    assert error.hint == "sudo apt install openssh-client"


UNREACHABLE = {
    "ssh: connect to host 10.0.0.9 port 22: Connection timed out": "it does not answer",
    "Connection timed out during banner exchange": "it does not answer",
    "ssh: connect to host 10.0.0.9 port 22: No route to host": "it cannot be reached",
    "ssh: connect to host 10.0.0.9 port 22: Network is unreachable": "it cannot be reached",
    "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures": "after too many keys",
    "Permissions 0644 for '/home/me/key' are too open.\nme@pi: Permission denied (publickey).": "others can read it",
    "kex_exchange_identification: read: Connection reset by peer": "before anybody logged in",
    "Unable to negotiate with 1.2.3.4 port 22: no matching host key type found.": "no cryptographic method",
}


@pytest.mark.parametrize("words", UNREACHABLE)
def test_what_ssh_says(words):
    from edgecnn.targets.hosts.ssh_failures import failure

    error = failure("kitchen", "pi@kitchen", 2222, words + "\x1b[2J")
    assert UNREACHABLE[words] in error.message
    assert error.hint
    assert "{" not in error.hint
    assert "\x1b" not in error.detail


def test_words_that_nobody_knows():
    from edgecnn.targets.hosts.ssh_failures import failure

    assert failure("kitchen", "pi", None, "the moon is full") is None
    assert len({row.message for row in FAILURES}) == len(FAILURES)


# --- what the device lacks --------------------------------------------------------------------------------------------


def program(folder, name, text, mode=0o755):
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_no_python(device):
    error = refusal(device, python="python3.99")
    assert error.message == "kitchen: there is no python3.99"
    assert "sudo apt install python3 python3-numpy" in error.hint


def test_a_python_that_cannot_be_executed(device, tmp_path):
    path = program(tmp_path, "python", "", 0o644)
    assert refusal(device, python=path).message == f"kitchen: {path} cannot be executed"


def test_a_python_that_is_something_else(device, tmp_path):
    error = refusal(device, python=program(tmp_path, "python", "#!/bin/sh\necho I am no snake\nexit 3\n"))
    assert "the agent did not start: the login ended with exit code 3" in error.message
    assert "I am no snake" in error.why


def test_a_python_that_hangs(device, tmp_path, note):
    path = program(tmp_path, "python", f"#!/bin/sh\necho $$ > {note}\nexec cat > /dev/null\n")
    with pytest.raises(TargetError, match=r"did not start within 1 s"):
        device.host(python=path).start(time_limit=1)


def test_an_old_python(device, tmp_path):
    """The bootstrap's first line is written as such a Python would write it."""
    path = program(tmp_path, "python", '#!/bin/sh\necho; echo "$3 3.5.3"\n')
    error = refusal(device, python=path)
    assert error.message == f"kitchen: {path} is Python 3.5.3; the agent needs 3.9 or newer"


OLD = [path for path in map(shutil.which, ("python2", "python2.7", "python3.6", "python3.7", "python3.8")) if path]


@pytest.mark.parametrize("python", OLD or [pytest.param("", marks=pytest.mark.skip(reason="no old Python here"))])
def test_old_pythons_that_are_here(device, python):
    if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} does not run")
    assert "; the agent needs 3.9 or newer" in refusal(device, python=python).message


def test_no_numpy(packages, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(\"No module named 'numpy'\")")
    with sshd(variables={"PYTHONPATH": tmp_path}) as server:
        there = server.host().start()
        with there, pytest.raises(TargetError) as caught:
            there.hello()
    assert caught.value.message == "the agent on kitchen: numpy is not installed there"
    assert caught.value.hint == f"ssh device {sys.executable} -m pip install numpy"
    assert not isinstance(caught.value, LostError)


def test_no_runtime(device):
    with device.host().start() as connection, pytest.raises(TargetError) as caught:
        connection.open("tflite-micro", b"1", "net.tflite")
    assert caught.value.message.startswith("net.tflite on tflite-micro: tflite-micro is not installed")
    assert caught.value.hint == f"ssh device {sys.executable} -m pip install tflite-micro"


# --- how runtimes fail ------------------------------------------------------------------------------------------------

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


# --- a line that is cut -----------------------------------------------------------------------------------------------


def test_a_cut_line_is_told_from_a_crash(device, note):
    with device.host().start() as connection:
        session = connection.open("tflite-runtime", artifact(note, "time.sleep(1000)"), "net")
        timer = threading.Timer(0, lambda: (noted(note), device.cut()))
        timer.start()
        with pytest.raises(LostError, match="net on tflite-runtime: the line to kitchen was cut"):
            session.infer([X])
        timer.join()
    wait_until_gone(noted(note))


CUT_FIRST = """
count = int(open({counter!r}).read() or 0) + 1
open({counter!r}, 'w').write(str(count))
if count <= {times}:
    time.sleep(1000)
"""


@pytest.fixture
def cutter(device, tmp_path):
    """Cuts the line whenever an artifact has begun to run, up to so many times."""
    counter = tmp_path / "counter"
    counter.write_text("")
    threads = []

    def start(times):
        def cut():
            for wanted in range(1, times + 1):
                for _ in range(1000):
                    if counter.read_text() == str(wanted):
                        device.cut()
                        break
                    time.sleep(0.02)

        threads.append(threading.Thread(target=cut))
        threads[0].start()
        return CUT_FIRST.format(counter=str(counter), times=times)

    yield start
    for thread in threads:
        thread.join()


def test_a_line_cut_once_is_mended(device, note, cutter):
    code = artifact(note, cutter(1))
    with open_steady(device.host(), "", "tflite-runtime", code, "net", threads=1) as session:
        assert session.notes == ()
        assert session.infer([X]) == [X]
        assert session.infer({"x": X}) == [X]
        assert session.notes == ("net on tflite-runtime: the line to kitchen was cut; started over",)
        assert session.options["threads"] == 1
        assert (session.version, session.arena_bytes) == ("0", None)
        assert session.inputs == session.outputs


def test_a_line_cut_twice_is_reported(device, note, cutter):
    code = artifact(note, cutter(2))
    with pytest.raises(LostError) as caught, open_steady(device.host(), "", "tflite-runtime", code, "net") as session:
        session.infer([X])
    assert caught.value.message == "net on tflite-runtime: the line to kitchen was cut, twice"


def test_crashes_are_not_repeated(device, note, tmp_path):
    log = tmp_path / "log"
    code = artifact(note, f"open({str(log)!r}, 'a').write('once'); os.abort()")
    steady = open_steady(device.host(), "", "tflite-runtime", code, "net")
    with steady as session, pytest.raises(TargetError, match="SIGABRT"):
        session.infer([X])
    assert log.read_text() == "once"


def test_a_server_that_is_gone_for_good(note):
    with sshd() as server:
        with server.host().start() as connection:
            connection.hello()
            server.stop()
            with pytest.raises(LostError):
                connection.hello()
        assert refusal(server).message == "kitchen: it refuses connections: no ssh server listens there"
        server.start()
        with server.host().start() as connection:
            assert connection.hello()


def test_a_stale_socket_is_replaced(device):
    host = device.host(connect_timeout=13)
    with host.start():
        pass
    master = ssh_master.master_of(host._ssh(), host.destination)
    before = device.logins()
    device.cut()
    time.sleep(0.2)
    master.socket.unlink(missing_ok=True)
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(master.socket))  # a socket file behind which nobody listens
    with host.start() as connection:
        assert connection.hello()
    assert device.logins() == before + 1


# --- artifacts on the device ------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch):
    """Sizes of the artifacts that were sent, not only named."""
    sizes = []
    original = messages.encode_message

    def recording(kind, fields, arrays=()):
        if kind == "open" and len(arrays):
            sizes.append(arrays[0].nbytes)
        return original(kind, fields, arrays)

    monkeypatch.setattr(messages, "encode_message", recording)
    return sizes


@pytest.fixture
def cache(device):
    folder = device.home / ".cache" / "edgecnn-agent"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def opened(device, code, **kwargs):
    with device.host(**kwargs).start() as connection:
        return connection.open("tflite-runtime", code, "net").notes


def test_artifacts_are_sent_once(device, cache, sent):
    for _ in range(3):
        assert opened(device, b"pass") == ()
    assert sent == [4]
    (file,) = cache.iterdir()
    assert file.name == hashlib.sha256(b"pass").hexdigest()
    assert (cache.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def test_within_a_connection_they_are_sent_once_without_a_cache(device, cache, sent):
    with device.host(cache=False).start() as connection:
        for _ in range(3):
            connection.open("tflite-runtime", b"pass # once", "net").infer([X])
    assert len(sent) == 1
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["changed", "empty", "a folder", "a link", "a pipe"])
def test_damaged_files_are_not_run(device, cache, sent, damage, tmp_path):
    opened(device, b"pass")
    (file,) = cache.iterdir()
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage == "a pipe":
        os.mkfifo(file)
    elif damage == "a link":
        (tmp_path / "elsewhere").write_bytes(b"pass")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_bytes(b"" if damage == "empty" else b"exit")
    notes = opened(device, b"pass")
    assert sent == [4, 4]
    assert bool(notes) == (damage == "a folder")
    if damage != "a folder":
        assert file.read_bytes() == b"pass"
        assert not file.is_symlink()


def test_a_cache_folder_that_others_can_write_to_is_not_used(device, cache):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    (note,) = opened(device, b"pass")
    assert note == f"not kept on kitchen: not a folder that only this user can write to: {cache}"
    assert list(cache.iterdir()) == []


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmpfs, packages, sent):
    kept_what_fits(packages, tmpfs, sent, "", "No space left on device")


def test_a_quota(tmp_path, packages, sent):
    """As a full disk is, for those who cannot mount one: no file may be larger than 64 kB."""
    kept_what_fits(packages, tmp_path, sent, "sh -c 'ulimit -f 128; exec \"$@\"' --", "File too large")


def kept_what_fits(packages, disk, sent, command_prefix, why):
    code = b"pass #" + b"x" * 100_000
    with sshd(command_prefix, variables={"PYTHONPATH": packages, "XDG_CACHE_HOME": disk}) as server:
        assert opened(server, b"pass") == ()
        with server.host().start() as connection:
            session = connection.open("tflite-runtime", code, "net")
            assert session.infer([X]) == [X]
        folder = disk / "edgecnn-agent"
        assert session.notes == (f"not kept on kitchen: {why}: {folder}",)
        assert [path.name for path in folder.iterdir()] == [hashlib.sha256(b"pass").hexdigest()]
        assert opened(server, b"pass") == ()
        assert sent == [4, len(code)]


def test_a_home_that_cannot_be_written(packages):
    with sshd(variables={"PYTHONPATH": packages, "XDG_CACHE_HOME": "/proc/nowhere"}) as server:
        (note,) = opened(server, b"pass")
    assert note.startswith("not kept on kitchen: ")
    assert note.endswith(": /proc/nowhere/edgecnn-agent")


# --- what is handed to ssh and to shells ------------------------------------------------------------------------------

NO_DESTINATIONS = [
    "",
    "-oProxyCommand=touch /tmp/x",
    "-v",
    "pi@-oProxyCommand=x",
    "-l@pi",
    "pi kitchen",
    "pi\nkitchen",
    "pi@",
    "pi;reboot",
    "$(reboot)",
    "`reboot`",
    "pi|cat",
    "pi'",
    "pi\x00",
]


@pytest.mark.parametrize("destination", NO_DESTINATIONS)
def test_no_destinations(destination):
    with pytest.raises(UsageError, match="is no destination"):
        SshHost(destination)


@pytest.mark.parametrize("destination", ["pi", "pi@kitchen", "pi@10.0.0.9", "pi@fe80::1%eth0", "küche", "a@b@jump"])
def test_destinations(destination):
    assert SshHost(destination).name == destination


@pytest.mark.parametrize("python", ["", "-m", "it's", "back\\slash", "new\nline", "hist!ory"])
def test_no_interpreters(python):
    with pytest.raises(UsageError, match="cannot be the path"):
        SshHost("pi", python=python)
    with pytest.raises(UsageError, match="cannot be the path"):
        SshHost("pi", pythons={"litert": python})


def test_interpreters_with_odd_paths(device, tmp_path):
    folder = tmp_path / 'a b;$(c) "d" & \'e'[:-3]
    folder.mkdir(parents=True)
    path = program(folder, "python*", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    with device.host(python=path).start() as connection:
        assert connection.hello()


URLS = {
    "ssh://pi@raspberrypi.local:22": ("pi@raspberrypi.local", 22),
    "ssh://raspberrypi.local": ("raspberrypi.local", None),
    "ssh://pi@Kitchen/": ("pi@Kitchen", None),
    "ssh://pi@[fe80::1]:2222": ("pi@fe80::1", 2222),
    "ssh://a%40b@pi": ("a@b@pi", None),
}
NO_URLS = [
    "http://pi",
    "ssh:pi",
    "ssh://",
    "ssh://pi:0x16",
    "ssh://pi:99999",
    "ssh://pi:0",
    "ssh://pi/path",
    "ssh://pi?x=1",
    "ssh://-oProxyCommand=x",
    "ssh://-v@pi",
    "ssh://pi%20x",
    "ssh://pi:secret@kitchen",
]


@pytest.mark.parametrize("url", URLS)
def test_urls(url):
    host = SshHost.from_url(url)
    assert (host.destination, host.port) == URLS[url]


@pytest.mark.parametrize("url", NO_URLS)
def test_no_urls(url):
    with pytest.raises(UsageError) as caught:
        SshHost.from_url(url)
    assert "secret" not in str(caught.value)


def test_no_such_environment(device):
    with pytest.raises(TargetError, match="kitchen has no environment 'litert'"):
        device.host().start("litert")


def test_reports_are_read_among_other_words():
    marker = "edgecnn00"
    words, report = bootstrap.split_report(f"one\ntwo\n{marker} signal 11\n", marker)
    assert (words, report) == ("one\ntwo", bootstrap.Report(11, None))
    assert bootstrap.split_report("none", marker) == ("none", None)
    assert bootstrap.split_start(b"Hi" + f"\n{marker} 3.11.2\n".encode(), marker) == (b"Hi", (3, 11, 2))
    assert bootstrap.split_start(f"{marker} 3.11".encode(), marker) is None
