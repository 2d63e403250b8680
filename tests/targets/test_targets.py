"""Runtimes in a child process: what they compute, how they fail, and that nothing is left running."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from support.agent_file import agent_file
from support.artifacts import (
    GOOD,
    MODELS,
    NAMES,
    dequantize_model,
    onnx_model,
    tflite_model,
)
from support.processes import running, wait_until_gone

from edgecnn.errors import TargetError
from edgecnn.targets.agent import messages
from edgecnn.targets.agent.runtime_table import RUNTIME_TABLE
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.hosts.replies import Quantization
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for

AGENT = str(agent_file())
HANG = "import time; time.sleep(1000)"
X = np.array([1, -2, 3], np.float32)


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


@pytest.fixture(scope="module")
def local():
    with LocalHost().start() as connection:
        yield connection
    assert not running(connection.pid)


# --- artifacts --------------------------------------------------------------------------------------------------------


OPTION_SETS = [
    ("onnxruntime", {}),
    ("onnxruntime", {"threads": 2, "spinning": True}),
    *[("onnxruntime", {"graph_optimization": level}) for level in ("disable", "basic", "extended", "all")],
    ("litert", {}),
    ("litert", {"threads": 2}),
    ("litert", {"xnnpack": False}),
    ("litert", {"xnnpack": False, "reference_kernels": True}),
]


# --- what runtimes compute --------------------------------------------------------------------------------------------


def test_hello(local):
    info = local.hello()
    assert info.protocol == messages.PROTOCOL
    assert info.python == sys.version.split()[0]
    assert info.numpy == np.__version__
    assert info.machine == os.uname().machine
    assert {"onnxruntime", "litert"} <= set(info.runtimes) <= set(RUNTIMES)
    assert info.runtimes["litert"]


@pytest.mark.parametrize(("runtime", "options"), OPTION_SETS, ids=str)
def test_runs_and_resizes(local, runtime, options):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 8, 4)).astype(np.float32)
    with local.open(runtime, MODELS[runtime](), f"two on {runtime}", **options) as session:
        assert [item.name for item in session.inputs] == ["right", "left"]
        assert [item.name for item in session.outputs] == ["sum", "relu"]
        assert set(session.options) == set(RUNTIMES[runtime].options)
        assert options.items() <= session.options.items()
        for batch in (1, 8, 8, 3, 1):
            total, relu = session.infer([right[:batch], left[:batch]])
            np.testing.assert_array_equal(total, left[:batch] + right[:batch])
            np.testing.assert_array_equal(relu, np.maximum(left[:batch], 0))


@pytest.mark.parametrize("runtime", MODELS)
def test_inputs_by_name(local, runtime):
    left, right = np.full((1, 4), -1, np.float32), np.full((1, 4), 5, np.float32)
    session = local.open(runtime, MODELS[runtime](), "two")
    for inputs in ({"left": left, "right": right}, {"right": right, "left": left}):
        total, relu = session.infer(inputs)
        assert (total == 4).all()
        assert (relu == 0).all()


@pytest.mark.parametrize(
    ("signature", "names"),
    [
        ((), ["t1", "t0"]),
        ((("own", NAMES),), ["right", "left"]),
        ((("other", {"a": 0, "b": 1, "c": 2, "d": 3}), ("serving_default", NAMES)), ["right", "left"]),
        ((("serving_default", {"left": 0, "sum": 2}),), ["t1", "t0"]),
    ],
    ids=["none", "one", "two", "incomplete"],
)
def test_tflite_names(local, signature, names):
    assert [item.name for item in local.open("litert", tflite_model(signature), "two.tflite").inputs] == names


def test_quantization_is_described(local):
    session = local.open("litert", dequantize_model(), "q.tflite")
    (given,), (real,) = session.inputs, session.outputs
    assert (given.dtype, given.shape, given.quantization) == ("int8", (1, 4), Quantization(scale=0.5, zero_point=3))
    assert (real.dtype, real.quantization) == ("float32", None)
    (output,) = session.infer([np.array([[3, 4, 5, -128]], np.int8)])
    np.testing.assert_array_equal(output, [[0, 0.5, 1, -65.5]])


def test_onnx_batch_is_open(local):
    assert [item.shape for item in local.open("onnxruntime", onnx_model(), "two.onnx").inputs] == [(None, 4)] * 2


@pytest.mark.parametrize("runtime", MODELS)
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (GOOD[:1], "1 inputs are given, the artifact has 2"),
        ([GOOD[0], np.zeros((1, 4))], "input left is float32; float64 is given"),
        ([GOOD[0], np.zeros((1, 5), np.float32)], r"input left has the shape \((1|any), 4\); \(1, 5\) is given"),
        ([GOOD[0], np.zeros(4, np.float32)], "input left has the shape"),
        ({"left": GOOD[0], "up": GOOD[0]}, "the inputs are named"),
        ([np.zeros((2, 4), np.float32), np.zeros((3, 4), np.float32)], "two.file on"),
        ([GOOD[0], np.zeros((1, 4), np.complex64)], "the request cannot be sent"),
    ],
    ids=["number", "type", "size", "rank", "name", "batches", "unsendable"],
)
def test_wrong_inputs_are_refused_and_it_goes_on(local, runtime, inputs, words):
    session = local.open(runtime, MODELS[runtime](), "two.file")
    with pytest.raises(TargetError, match=words):
        session.infer(inputs)
    assert len(session.infer(GOOD)) == 2


def test_empty_batch_is_refused_by_tflite(local):
    with pytest.raises(TargetError, match="cannot run on empty inputs"):
        local.open("litert", tflite_model(), "two.tflite").infer([np.zeros((0, 4), np.float32)] * 2)


@pytest.mark.parametrize(
    ("runtime", "options", "words"),
    [
        ("litert", {"graph_optimization": "all"}, "litert has no option 'graph_optimization'"),
        ("onnxruntime", {"xnnpack": True}, "onnxruntime has no option 'xnnpack'"),
        ("onnxruntime", {"graph_optimization": "most"}, "not one of disable, basic, extended, all"),
        ("onnxruntime", {"threads": 0}, "not from 1 to 256"),
        ("litert", {"xnnpack": 1}, "not of type bool"),
        ("litert", {"reference_kernels": True}, "give xnnpack=False with it"),
        ("fastest", {}, "unknown runtime 'fastest'"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(local, runtime, options, words):
    with pytest.raises(TargetError, match=words):
        local.open(runtime, MODELS.get(runtime, onnx_model)(), "two", **options)


@pytest.mark.parametrize("runtime", MODELS)
@pytest.mark.parametrize("artifact", [b"no artifact at all", b""])
def test_not_an_artifact(local, runtime, artifact):
    with pytest.raises(TargetError, match=rf"bad.file on {runtime}: ") as caught:
        local.open(runtime, artifact, "bad.file")
    assert "Traceback" in caught.value.detail
    assert local.hello()


def test_closed_sessions(local):
    session = local.open("onnxruntime", onnx_model(), "two.onnx")
    session.close()
    session.close()
    with pytest.raises(TargetError, match="there is no session"):
        session.infer(GOOD)


def test_tables_agree():
    """The agent imports nothing of the host, so the host's table repeats a part of its table."""
    theirs = {name: (row.module, row.distribution, row.options) for name, row in RUNTIME_TABLE.items()}
    assert theirs == {
        name: (row.module, row.distribution, {key: option.default for key, option in row.options.items()})
        for name, row in RUNTIMES.items()
    }
    assert all(option.accepts(option.default) for row in RUNTIMES.values() for option in row.options.values())
    assert [row.name for row in runtimes_for("onnx")] == ["onnxruntime", "openvino"]
    assert [row.name for row in runtimes_for("tflite")] == ["litert", "tflite-runtime", "tflite-micro", "openvino"]
    assert runtimes_for("c") == ()


# --- how they fail ----------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path, started):
    """Start a connection to a Python program."""

    def start(source, **kwargs):
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source))
        return Connection([sys.executable, str(path)], name="here", python="python3.9", **kwargs)

    return start


PREAMBLE = f"""
import importlib.util, json, os, signal, subprocess, sys, time
import numpy as np
spec = importlib.util.spec_from_file_location("agent", {AGENT!r})
agent = sys.modules["agent"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agent)
"""


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
    inputs = [agent.Tensor("x", [None], "float32", None)]
    outputs = [agent.Tensor("y", [None], "float32", None)]
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
    for name in ("json", "numpy", "onnxruntime"):
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


# --- nothing is left running ------------------------------------------------------------------------------------------


def test_closing_twice(started):
    connection = LocalHost().start()
    connection.hello()
    connection.close()
    connection.close()
    assert not running(connection.pid)
    assert not connection.alive
    with pytest.raises(TargetError, match="the connection to local is closed"):
        connection.hello()


def test_an_exception_in_the_block_ends_it(started):
    with pytest.raises(ZeroDivisionError), LocalHost().start():
        raise ZeroDivisionError
    assert not running(started[0])


def test_a_connection_that_is_forgotten_ends(started):
    LocalHost().start()
    assert not running(started[0])


HOST = """
import os, sys
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
{start}
print(connection.pid, flush=True)
{then}
"""
AGENT_HOST = "connection = LocalHost().start(); connection.hello()"
HUNG_HOST = f"connection = Connection([sys.executable, '-c', {HANG!r}], name='hung')"
# A child that interrupts its host once a request has reached it, and then hangs.
INTERRUPT = f"import os, signal; os.read(0, 1); os.kill(os.getppid(), signal.SIGINT); {HANG}"
INTERRUPTED_HOST = f"connection = Connection([sys.executable, '-c', {INTERRUPT!r}], name='hung')"


@pytest.fixture
def host():
    """Start a program that holds a connection; returns it and its agent's process id."""
    programs = []

    def start(setup, then):
        source = HOST.format(start=setup, then=then)
        program = subprocess.Popen(
            [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        programs.append(program)
        return program, int(program.stdout.readline())

    yield start
    for program in programs:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("setup", [AGENT_HOST, HUNG_HOST], ids=["idle", "hung"])
@pytest.mark.parametrize("then", ["", "raise ValueError", "sys.exit(1)"])
def test_the_hosts_end_ends_it(host, setup, then):
    program, pid = host(setup, then)
    program.communicate(timeout=60)
    assert not running(pid)


def test_an_interrupt_ends_a_hung_child(host):
    program, pid = host(INTERRUPTED_HOST, "connection.hello()")
    assert "KeyboardInterrupt" in program.communicate(timeout=60)[1]
    assert not running(pid)


def test_an_interrupt_can_be_survived(host):
    then = """
try:
    connection.hello()
except KeyboardInterrupt:
    print(connection.alive, flush=True)
"""
    program, pid = host(INTERRUPTED_HOST, then)
    assert program.communicate(timeout=60)[0].strip() == "False"
    assert not running(pid)


def test_an_idle_agent_ends_when_its_host_is_killed(host):
    program, pid = host(AGENT_HOST, "connection._child.read(1)\n" + HANG)
    program.kill()
    wait_until_gone(pid)


def test_a_fork_does_not_take_the_agent_along(host):
    then = """
if os.fork() == 0:
    connection.close()
    sys.exit()
os.wait()
print(connection.hello().protocol, flush=True)
"""
    program, pid = host(AGENT_HOST, then)
    assert program.communicate(timeout=60)[0].strip() == str(messages.PROTOCOL)
    assert not running(pid)
