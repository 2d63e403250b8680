"""The agent by itself: the Pythons it runs under, how it ends, what it tells of a machine, what it keeps."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.agent_file import agent_file
from support.artifacts import GOOD, MODELS
from support.paths import ROOT
from support.processes import wait_until_gone

from edgecnn.errors import TargetError
from edgecnn.targets import wheels
from edgecnn.targets.agent import artifact_store, machine, messages
from edgecnn.targets.hosts import bootstrap, machine_info
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes import RUNTIMES

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


# --- what it tells of a machine ---------------------------------------------------------------------------------------


def files(monkeypatch, contents):
    """Let these files be all there is in /proc and /sys."""

    def read(*parts):
        path = str(Path(*parts))
        if path not in contents:
            raise FileNotFoundError(path)
        return contents[path].strip("\0\n ")

    class Folder(type(Path())):
        def glob(self, pattern):
            folders = {parent for path in contents for parent in Path(path).parents}
            return [folder for folder in folders if folder.match(str(self / pattern))]

    monkeypatch.setattr(machine, "_read_text", read)
    monkeypatch.setattr(machine, "Path", Folder)


CPUFREQ = "/sys/devices/system/cpu/cpufreq/policy0"
PI = {
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd crc32\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
    "/proc/meminfo": "MemTotal:        3884360 kB\nMemAvailable:    3000000 kB\nSwapTotal:        102396 kB\n",
    "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    f"{CPUFREQ}/affected_cpus": "0 1 2 3",
    f"{CPUFREQ}/scaling_governor": "ondemand\n",
    f"{CPUFREQ}/scaling_cur_freq": "600000",
    f"{CPUFREQ}/scaling_max_freq": "1800000",
    "/sys/class/thermal/thermal_zone0/temp": "48312\n",
    "/sys/class/thermal/thermal_zone1/temp": "not a number",
}


def probed():
    return machine_info.parse_probe(messages.Message("probe", machine.probe(), ()))


def test_a_raspberry_pi(monkeypatch, tmp_path):
    files(monkeypatch, PI)
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x50005\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    info = probed()
    assert (info.board, info.cpu) == ("Raspberry Pi 4 Model B Rev 1.4", "Cortex-A72")
    assert info.features == ("fp", "asimd", "crc32")
    assert (info.memory, info.memory_available, info.swap) == (3884360 * 1024, 3000000 * 1024, 102396 * 1024)
    assert info.os == "Debian GNU/Linux 12 (bookworm)"
    clock = machine_info.CpuClock(cores="0 1 2 3", governor="ondemand", now=600000, min=None, max=1800000)
    assert (info.clocks, info.governor) == ((clock,), "ondemand")
    assert info.temperature == 48.312
    assert info.throttled == ("under-voltage now", "throttled now", "under-voltage since boot", "throttled since boot")


def test_clocks_of_a_kernel_without_policies(monkeypatch):
    base = "/sys/devices/system/cpu/cpu0/cpufreq"
    files(monkeypatch, {f"{base}/scaling_governor": "performance", f"{base}/scaling_cur_freq": "x"})
    clock = machine_info.CpuClock(cores=None, governor="performance", now=None, min=None, max=None)
    assert probed().clocks == (clock,)


def test_a_machine_that_tells_nothing(monkeypatch):
    files(monkeypatch, {})
    monkeypatch.setattr(machine, "_read_text", lambda *parts: 1 / 0)
    monkeypatch.setattr(machine.subprocess, "run", lambda *a, **k: 1 / 0)
    monkeypatch.delattr(os, "getloadavg")
    info = probed()
    assert (info.board, info.cpu, info.features, info.memory, info.os, info.clocks) == (None, None, (), None, None, ())
    assert (info.temperature, info.throttled, info.load, info.governor) == (None, None, None, None)


@pytest.mark.parametrize("told", ["sleep 1000", "echo no such thing", "exit 1", "echo throttled=0x0; exit 1"])
def test_a_vcgencmd_that_fails(monkeypatch, tmp_path, told):
    tool = tmp_path / "vcgencmd"
    tool.write_text(f"#!/bin/sh\n{told.replace('sleep', 'exec sleep')}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert probed().throttled is None


def test_long_texts_are_cut():
    fields = {"board": "a\nb " * 10_000, "features": ["x" * 1000] * 5000, "clocks": [{}] * 1000, "load": [1] * 1000}
    info = machine_info.parse_probe(messages.Message("probe", fields, ()))
    assert len(info.board) <= 300
    assert "\n" not in info.board
    assert (len(info.features), len(info.features[0]), len(info.clocks), len(info.load)) == (512, 40, 64, 3)


@pytest.mark.parametrize(
    "fields",
    [{"cores": -1}, {"cores": True}, {"cores": 1.0}, {"features": [1]}, {"load": ["1"]}, {"temperature": "hot"},
     {"clocks": [1]}, {"clocks": [{"now": "1"}]}, {"board": 1}, {"throttled": "0x0"}, {"features": "fp"}],
)  # fmt: skip
def test_wrong_types_are_refused(fields):
    with pytest.raises(messages.ProtocolError):
        machine_info.parse_probe(messages.Message("probe", fields, ()))


# --- what it keeps ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edgecnn-agent"


def keep(store, data, **kwargs):
    digest = hashlib.sha256(data).hexdigest()
    return digest, store.store(digest, data, **{"disk": True, **kwargs})


def test_what_was_used_longest_ago_goes_first(folder):
    store = artifact_store.ArtifactStore(disk=25)
    names = []
    for index in range(2):
        names.append(keep(store, bytes([index]) * 10)[0])
        os.utime(folder / names[-1], (index, index))
    assert artifact_store.ArtifactStore().find(names[0], disk=True) == bytes(10)  # which counts as used
    keep(store, b"x" * 10)
    assert not (folder / names[1]).exists()
    assert len(list(folder.iterdir())) == 2
    assert keep(store, b"y" * 26)[1] == f"larger than the 25 bytes that are kept: {folder}"


def test_memory_is_bounded_too(folder):
    store = artifact_store.ArtifactStore(memory=25)
    first, second, third = (keep(store, bytes([index]) * 10, disk=False)[0] for index in range(3))
    assert [store.find(name, disk=False) is not None for name in (first, second, third)] == [False, True, True]
    assert not folder.exists()


def test_what_a_killed_agent_left_unfinished_goes(folder):
    store = artifact_store.ArtifactStore()
    keep(store, b"1")
    old, new, foreign = folder / ".unfinished-old", folder / ".unfinished-new", folder / "notes.txt"
    for path in (old, new, foreign):
        path.write_text("half")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    keep(store, b"2")
    assert [path.exists() for path in (old, new, foreign)] == [False, True, True]


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    store = artifact_store.ArtifactStore()
    monkeypatch.setattr(artifact_store.Path, "replace", full)
    digest, why = keep(store, b"1")
    assert why == f"No space left on device: {folder}"
    assert list(folder.iterdir()) == []
    assert store.find(digest, disk=True) == b"1"


def test_no_home_folder(monkeypatch):
    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(artifact_store.Path, "expanduser", homeless)
    digest, why = keep(artifact_store.ArtifactStore(), b"1")
    assert why == "Could not determine home directory."
    assert artifact_store.ArtifactStore().find(digest, disk=True) is None


def test_a_relative_cache_home_is_no_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert artifact_store.artifact_folder() == Path("~/.cache/edgecnn-agent").expanduser()


# --- which wheels -----------------------------------------------------------------------------------------------------

ADVICE = [
    ("litert", "aarch64", "3.11.2", "python3 -m pip install ai-edge-litert"),
    ("litert", "x86_64", "3.9.2", "python3 -m pip install ai-edge-litert"),
    ("onnxruntime", "aarch64", "3.14.0rc1", "python3 -m pip install onnxruntime"),
    ("tflite-runtime", "armv7l", "3.11.2", "python3 -m pip install tflite-runtime numpy==1.26.4"),
    ("tflite-runtime", "armv7l", "3.13.5", "on armv7l, tflite-runtime has wheels for Python 3.9 to 3.11, not 3.13.5"),
    (
        "onnxruntime",
        "armv7l",
        "3.11.2",
        "there is no wheel of onnxruntime for armv7l, only for aarch64 and x86_64; what fits there is tflite-runtime",
    ),
    (
        "litert",
        "armv7l",
        "3.11.2",
        (
            "there is no wheel of litert for armv7l, only for aarch64 and x86_64;"
            " tflite-runtime would run the same files there"
        ),
    ),
    ("onnxruntime", "riscv64", "3.12.0", "there is no wheel of onnxruntime for riscv64, only for aarch64 and x86_64"),
    ("fastest", "x86_64", "3.12.0", "one of onnxruntime, litert, tflite-runtime, tflite-micro, openvino"),
]


@pytest.mark.parametrize(("runtime", "machine", "python", "words"), ADVICE)
def test_advice(runtime, machine, python, words):
    assert wheels.advice(runtime, machine, python) == words


def test_every_runtime_has_wheels_in_order():
    for runtime in RUNTIMES.values():
        assert runtime.wheels
        for row in runtime.wheels:
            assert row.pythons[0] <= row.pythons[1]
            assert row.machines
    assert wheels.fitting("litert", "x86_64", "3.9.1").release == "2.1.0"
    assert wheels.fitting("litert", "x86_64", "three") is None


@pytest.mark.parametrize(
    ("machine", "bits", "wheel"),
    [("aarch64", 64, "aarch64"), ("aarch64", 32, "armv7l"), ("armv7l", 32, "armv7l"), ("x86_64", 32, "i686")],
)
def test_32_bit_programs_on_a_64_bit_kernel(machine, bits, wheel):
    fields = {"protocol": 1, "python": "3", "platform": "L", "machine": machine, "numpy": "2", "runtimes": {}}
    info = machine_info.parse_hello(messages.Message("hello", {**fields, "bits": bits}, ()))
    assert info.wheel_machine == wheel
