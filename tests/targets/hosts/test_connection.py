"""An agent in a child process that crashes, hangs, answers nonsense or is none: each is named, with its last words."""

from __future__ import annotations

import os

import numpy as np
import pytest
from support.agent_programs import HANG, PREAMBLE
from support.artifacts import MODELS
from support.processes import running, wait_until_gone

from edgecnn.errors import TargetError
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes import RUNTIMES

X = np.array([1, -2, 3], np.float32)
FAULTS = {
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", "net.fp32.onnx on fake: crashed with SIGSEGV"),
    "SIGABRT": ("os.abort()", "net.fp32.onnx on fake: crashed with SIGABRT"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "net.fp32.onnx on fake: crashed with SIGKILL"),
    "exit": ("os._exit(3)", "net.fp32.onnx on fake: ended with exit code 3 and without a whole answer"),
    "exit 0": ("raise SystemExit(0)", "net.fp32.onnx on fake: ended with exit code 0 and without a whole answer"),
    "hang": ("time.sleep(1000)", "net.fp32.onnx on fake: no answer within 1 s"),
    "stop": ("os.kill(os.getpid(), signal.SIGSTOP)", "net.fp32.onnx on fake: no answer within 1 s"),
    "wrong type": ("y = np.zeros(1)", "net.fp32.onnx on fake: the answer is malformed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_artifact_runtime_cause_and_last_words(fake, fault):
    statement, message = FAULTS[fault]
    words = "print('to stdout'); print('to stderr', file=sys.stderr); os.write(1, b'native \\x1b[2J\\n')\n"
    with fake(words + statement) as connection:
        session = connection.open("fake", b"1", "net.fp32.onnx")
        with pytest.raises(TargetError) as caught:
            session.infer([X], time_limit=1 if "no answer" in message else None)
        assert caught.value.message == message
        assert caught.value.where == "here"
        assert "to stdout\nto stderr\nnative \ufffd[2J" in caught.value.why
        assert not running(connection.pid)
        with pytest.raises(TargetError, match="the connection to here is closed") as caught:
            session.infer([X])
        assert message in caught.value.why
        session.close()


def test_a_crash_shows_pythons_stack(fake):
    with fake("os.kill(os.getpid(), signal.SIGSEGV)") as connection, pytest.raises(TargetError) as caught:
        connection.open("fake", b"1", "net").infer([X])
    assert "Segmentation fault" in caught.value.why
    assert "in infer" in caught.value.why


def test_exceptions_leave_the_agent_in_use(fake):
    with fake("if y[0] == 1: raise RuntimeError('boom\\n' * 3)") as connection:
        session = connection.open("fake", b"1", "net")
        with pytest.raises(TargetError, match="net on fake: boom") as caught:
            session.infer([X])
        assert "RuntimeError: boom" in caught.value.detail
        np.testing.assert_array_equal(session.infer([-X])[0], -X)


@pytest.mark.parametrize("statement", ["y = np.array(['text'])", "y = np.zeros(1, np.complex64)", "y = 1", "y = None"])
def test_an_output_that_cannot_be_sent_is_an_error(fake, statement):
    with fake(statement) as connection, pytest.raises(TargetError, match="net on fake: "):
        connection.open("fake", b"1", "net").infer([X])


def test_megabytes_of_prints_neither_block_nor_corrupt(fake):
    statements = """
        for _ in range(64):
            os.write(1, b"o" * 65536)
            os.write(2, b"e" * 65535 + b"\\n")
            print("p" * 65536)
    """
    with fake(statements) as connection:
        session = connection.open("fake", b"1", "net")
        for _ in range(2):
            np.testing.assert_array_equal(session.infer([X])[0], X)


def test_megabytes_of_arrays(fake):
    x = np.random.default_rng(0).normal(size=3_000_001).astype(np.float32)
    with fake("") as connection:
        np.testing.assert_array_equal(connection.open("fake", bytes(5_000_000), "net").infer([x])[0], x)


def test_what_a_runtime_reads_is_empty(fake):
    with fake("y = np.float32([len(sys.stdin.read() + os.read(0, 10).decode())])") as connection:
        assert connection.open("fake", b"1", "net").infer([X])[0] == 0


def test_what_a_runtime_started_is_killed_with_it(fake, tmp_path):
    note = tmp_path / "pid"
    statements = f"""
        child = subprocess.Popen(["sleep", "1000"])
        open({str(note)!r}, "w").write(str(child.pid))
        time.sleep(1000)
    """
    with fake(statements) as connection, pytest.raises(TargetError, match="no answer"):
        connection.open("fake", b"1", "net").infer([X], time_limit=2)
    wait_until_gone(int(note.read_text()))


@pytest.mark.parametrize("runtime", MODELS)
def test_environment_and_modules_of_the_child(script, runtime):
    source = f"""{PREAMBLE}
class Spy:
    inputs, outputs, arena_bytes = [], [], None
    def __init__(self, module, artifact, options):
        agent.importlib.import_module(module)
        import {RUNTIMES[runtime].module}{".interpreter" if runtime == "litert" else ""}
        self.version = json.dumps([sorted(sys.modules), dict(os.environ), sys.path])
agent.RUNTIME_TABLE["spy"] = agent.RuntimeRow("{RUNTIMES[runtime].module}", "x", {{}}, Spy)
agent.main()
"""
    import json

    with script(source) as connection:
        modules, environment, _ = json.loads(connection.open("spy", b"1", "net").version)
    assert RUNTIMES[runtime].module in modules
    assert not {"torch", "onnx", "click", "edgecnn"} & set(modules)
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["PYTHONHASHSEED"] == "0"
    assert environment.get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("safe_path", ["", "1"], ids=["", "PYTHONSAFEPATH"])
def test_files_of_the_current_folder_shadow_nothing(tmp_path, monkeypatch, started, safe_path):
    for name in ("json", "numpy", "onnxruntime", "linecache", "tokenize", "re"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)  # what it names is the user's own choice
    monkeypatch.setenv("PYTHONSAFEPATH", safe_path)
    with LocalHost().start() as connection:
        assert connection.hello().numpy == np.__version__


NO_AGENTS = {
    "dies": ("raise SystemExit('no such thing')", "ended with exit code 1", "no such thing"),
    "dies at once": ("import os; os._exit(0)", "ended with exit code 0", ""),
    "speaks otherwise": (f"print('Welcome to Raspbian', flush=True); {HANG}", "malformed", "what follows is b'ome to"),
    "megabytes": (f"import os; os.write(1, b'x' * 2**24); {HANG}", "malformed", "begins with"),
    "half a message": ("print('ECNN', end='')", "ended with exit code 0", "the stream ends after 0 of 16 bytes"),
    "silence": (HANG, "no answer within 1 s", ""),
    "closes stdin": (f"import os; os.close(0); {HANG}", "no answer within 1 s", ""),
    "crashes in a message": ("import os; os.write(1, b'ECNN'); os.abort()", "crashed with SIGABRT", "the stream ends"),
    "without numpy": ("import sys; sys.modules['numpy'] = None; import numpy", "exit code 1", "numpy"),
}


@pytest.mark.parametrize("case", NO_AGENTS)
def test_programs_that_are_no_agent(script, case):
    source, message, why = NO_AGENTS[case]
    with script(source) as connection:
        with pytest.raises(TargetError, match=f"the agent on here: .*{message}") as caught:
            connection.hello(time_limit=1 if "no answer" in message else None)
        assert why in caught.value.why
        assert not running(connection.pid)


def test_numpy_missing_says_what_to_install(script):
    source = "raise ModuleNotFoundError(\"No module named 'numpy'\")"
    with script(source) as connection, pytest.raises(TargetError) as caught:
        connection.hello()
    assert caught.value.hint == "python3.9 -m pip install numpy"


def test_a_child_that_goes_on_after_closing_its_output_is_killed(script, monkeypatch):
    monkeypatch.setattr("edgecnn.targets.hosts.process._GRACE", 0.2)
    source = f"import os; os.close(1); {HANG}"
    with script(source) as connection, pytest.raises(TargetError, match="closed its output"):
        connection.hello()


def test_a_child_that_never_reads(script):
    with script(HANG) as connection, pytest.raises(TargetError, match=r"net on litert: no answer within 0\.5 s"):
        connection.open("litert", bytes(2**23), "net", time_limit=0.5)


WRONG_REPLIES = {
    "another kind": ("'close', {}", "a reply to another request came: 'close'"),
    "no fields": ("'hello', {}", "runtimes is missing"),
    "empty error": ("'error', {}", "kind is missing"),
    "wrong types": ("'hello', {'runtimes': {'litert': 2}}", "not a string"),
}


@pytest.mark.parametrize("case", WRONG_REPLIES)
def test_wrong_replies(script, case):
    reply, why = WRONG_REPLIES[case]
    source = f"{PREAMBLE}\nagent.write_message(sys.stdout.buffer, {reply})\ntime.sleep(1000)"
    with script(source) as connection, pytest.raises(TargetError, match="malformed") as caught:
        connection.hello()
    assert why in caught.value.why


def test_another_protocol_version(script):
    source = f"{PREAMBLE}\nagent.PROTOCOL = 2\nsys.exit(agent.main())"
    with script(source) as connection, pytest.raises(TargetError, match="here speaks protocol 2") as caught:
        connection.hello()
    assert caught.value.why.startswith("it is newer than this edgecnn, which speaks protocol 1")
    assert caught.value.hint == "update edgecnn here"


def test_a_runtime_that_is_not_installed(script):
    source = f"{PREAMBLE}\nagent.importlib.util.find_spec = lambda name: None\nsys.exit(agent.main())"
    with script(source) as connection:
        assert connection.hello().runtimes == {}
        with pytest.raises(TargetError, match=r"n\.tflite on litert: litert is not installed") as caught:
            connection.open("litert", b"1", "n.tflite")
    assert caught.value.hint == "python3.9 -m pip install ai-edge-litert"


@pytest.mark.parametrize("kind", ["missing", "not executable", "not a program", "a folder"])
def test_python_that_cannot_be_started(tmp_path, kind):
    path = tmp_path / "python"
    if kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"\x7fELF")
        path.chmod(0o755 if kind == "not a program" else 0o644)
    with pytest.raises(TargetError, match="cannot start") as caught:
        LocalHost(str(path)).start()
    assert str(path) in str(caught.value)
    assert caught.value.why
