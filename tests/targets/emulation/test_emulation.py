"""Emulated boards: what is computed there, what it costs in instructions, and how building them fails.

Boards are built into the user's cache folder (``EDGECNN_CACHE`` names another) where they are not there yet, which
takes a network. Where QEMU is not installed, what needs a board is skipped.
"""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.int8 import (
    EXPORTERS,
    NETWORKS,
    Executor,
    alone,
    compared,
    images,
    integers,
    network,
    quantized_network,
    run,
    saturating,
)
from support.processes import wait_until_gone

import edgecnn
from edgecnn.capture.capture import capture
from edgecnn.errors import TargetError, UsageError
from edgecnn.export.onnx.export import export_onnx
from edgecnn.export.tflite.export import export_tflite, export_tflite_int8
from edgecnn.golden.integer import execute_integer, execute_node
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import build as building
from edgecnn.targets.emulation import (
    build_board,
    count_instructions,
    emulation_problems,
    is_built,
    plugin,
    programs,
    remove_board,
    userland,
    wheels,
)
from edgecnn.targets.emulation import cache as store
from edgecnn.targets.emulation.command import Counting, python_command
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.emulated import EmulatedHost
from edgecnn.targets.hosts.host import survey
from edgecnn.targets.hosts.session import Session

FLOAT_LIMIT = 1e-5
"""Largest error of fp32 as a share of the output's range."""
FP32 = {"onnx": export_onnx, "tflite": export_tflite}
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}
COUNTED = {"onnxruntime": "onnx", "litert": "tflite", "tflite-runtime": "tflite"}
"""Runtimes whose instructions are counted, and the format of each."""
SAMPLES = 16
MODELS = ("conv_pool", "lenet5", "resnet8")
"""Those of the zoo that boards are tested with: emulation is slow."""

qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None, reason="qemu-aarch64 is not installed (apt install qemu-user)"
)
counting = pytest.mark.skipif(programs.compiler() is None, reason="there is no C compiler (apt install gcc libc6-dev)")


@cache
def host(name: str) -> EmulatedHost:
    board = load_board(name)
    build_board(board)
    return EmulatedHost(board)


@cache
def case(name: str) -> tuple[Any, np.ndarray, QuantizedGraph]:
    """A network, images for it, and the network quantized."""
    module = network(name)
    return (
        module,
        images(module.input_shape, SAMPLES),
        quantized_network(name),
    )


@cache
def artifact(name: str, form: str, precision: str) -> tuple[bytes, np.ndarray]:
    """A file, and the images as it takes them."""
    module, x, q = case(name)
    if precision == "int8":
        written = EXPORTERS[form](q, version="0")
        return written.data, np.ascontiguousarray(x.transpose(written.axes[q.graph.inputs[0].name]))
    graph = capture(module, [torch.as_tensor(x[:1])])
    written = FP32[form](graph, version="0")
    return written.data, np.ascontiguousarray(x.transpose(written.axes[graph.inputs[0].name]))


def outputs(agent: Connection, runtime: str, data: bytes, x: np.ndarray, **options: Any) -> np.ndarray:
    with agent.open(runtime, data, "net", **options) as session:
        return session.infer([x])[0]


# --- what boards compute ----------------------------------------------------------------------------------------------


@qemu
@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("board", ["pi4", "pi5"])
def test_int8_is_bit_identical_to_x86(boards, agent, board: str, name: str, form: str) -> None:
    data, given = artifact(name, form, "int8")
    runtime = RUNTIMES[form]
    np.testing.assert_array_equal(
        outputs(boards(board, runtime), runtime, data, given), outputs(agent, runtime, data, given)
    )


@qemu
@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("board", ["pi4", "pi5"])
def test_fp32_is_within_1e_5_of_the_range(boards, board: str, name: str, form: str) -> None:
    module, x, _ = case(name)
    data, given = artifact(name, form, "fp32")
    with torch.inference_mode():
        expected = module.double()(torch.as_tensor(x).double()).numpy()
    module.float()
    got = outputs(boards(board, RUNTIMES[form]), RUNTIMES[form], data, given)
    assert np.abs(got - expected).max() <= FLOAT_LIMIT * np.ptp(expected)


@qemu
@pytest.mark.parametrize("name", NETWORKS)
def test_each_operator_on_32_bits(boards, name: str) -> None:
    """tflite-runtime is within 1 of the golden executor, each operator on what that gives it."""
    agent = boards("pi2", "tflite-runtime")
    _, x, q = case(name)
    executor = Executor("tflite", "tflite-runtime", {}, "gemmlowp")
    golden = execute_integer(q, integers(q, [x[:3]]), rounding="gemmlowp")
    for node in q.graph.nodes:
        one = alone(q, node)
        expected = execute_node(one, node, golden, rounding="gemmlowp")
        given = [golden[i.name] for i in one.graph.inputs]
        (got,) = run(agent, executor, one, export_tflite_int8(one, version="0"), given)
        result = compared(node, "tflite-runtime on pi2", got, expected)
        assert result.worst <= 1, result


@qemu
@pytest.mark.parametrize("board", ["pi2", "pi4"])
@pytest.mark.parametrize("name", MODELS)
def test_tflite_runtime_has_the_same_best_class(boards, board: str, name: str) -> None:
    _, x, q = case(name)
    data, given = artifact(name, "tflite", "int8")
    got = outputs(boards(board, "tflite-runtime"), "tflite-runtime", data, given)
    golden = execute_integer(q, integers(q, [x]))[q.graph.outputs[0].value]
    # Values that are equal as integers have no best one among them.
    best = np.take_along_axis(golden, got.argmax(1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(best, golden.max(1))


@qemu
@pytest.mark.parametrize("recipe", ["int8", "int8-7bit"])
def test_x86_without_vnni_saturates_and_7_bits_cure_it(boards, agent, tmp_path: Path, recipe: str) -> None:
    module, x = saturating()
    bundle = edgecnn.export_model(
        module.eval(), torch.zeros(1, 2, 8, 8), tmp_path / "q", precisions=["int8"], recipe=recipe, calibration=x
    )
    onnx, tflite = bundle.artifact("onnx", "int8"), bundle.artifact("tflite", "int8")
    warned = any("can saturate" in note for note in onnx.spec.notes)
    assert warned == (recipe == "int8")
    # The files are one integer program, of operators that no runtime computes differently.
    nhwc = np.ascontiguousarray(x.transpose(bundle.manifest.inputs[0].axes["tflite"]))
    expected = outputs(agent, "litert", tflite.read(), nhwc)
    np.testing.assert_array_equal(outputs(boards("x86-64-v3", "litert"), "litert", tflite.read(), nhwc), expected)
    board = boards("x86-64-v3", "onnxruntime")
    np.testing.assert_array_equal(outputs(board, "onnxruntime", onnx.read(), x), expected)
    got = outputs(board, "onnxruntime", onnx.read(), x, precision=False)
    assert bool((got != expected).any()) == warned


@qemu
@pytest.mark.parametrize("name", ["pi4", "pi5", "pi2", "x86-64-v3"])
def test_a_board_has_the_runtimes_that_its_file_says(boards, name: str) -> None:
    found = survey(boards.host(name))
    assert dict(found.problems) == {}
    board = load_board(name)
    assert {runtime: item.version for runtime, item in found.runtimes.items()} == board.runtimes
    assert {info.machine for info in found.agents.values()} == {board.architecture}


# --- what it costs ----------------------------------------------------------------------------------------------------


def counted(board: str, name: str, precision: str, runtime: str = "litert", **options: Any) -> Any:
    data, x = artifact(name, COUNTED[runtime], precision)
    return count_instructions(host(board), runtime, data, name, [x[:1]], **options)


@cache
def counted_once(runtime: str) -> Any:
    """The first of all runs that are compared."""
    return counted("pi5", "lenet5", "int8", runtime)


@qemu
@counting
@pytest.mark.parametrize("runtime", COUNTED)
def test_counts_are_the_same_in_two_runs(runtime: str, monkeypatch) -> None:
    """The second run is slow: ONNX Runtime does something more every 2 seconds, tflite-runtime every quarter of one."""
    first = counted_once(runtime)
    infer = Session.count
    monkeypatch.setattr(Session, "count", lambda *given, **options: (time.sleep(2.1), infer(*given, **options))[1])
    second = counted("pi5", "lenet5", "int8", runtime)
    assert first.per_inference == second.per_inference
    assert len(first.per_inference) == 5
    assert first.kinds == second.kinds
    assert (first.kinds["dot"] > 0) == (runtime != "tflite-runtime")  # 2.14's int8 kernels use none
    assert first.kinds["sve"] == 0
    assert min(first.per_inference) <= first.instructions <= max(first.per_inference)


@qemu
@counting
def test_nothing_is_counted_on_the_hosts_clock(tmp_path) -> None:
    here = host("pi5")
    command = here.command(counting=Counting(plugin.require_plugin(here.board, store.cache_folder()), tmp_path / "m"))
    ended = subprocess.run([w for w in command if not w.startswith("LD_PRELOAD=")], capture_output=True, check=False)
    assert ended.returncode != 0
    assert b"not preloaded" in ended.stderr


@qemu
@counting
def test_counts_do_not_depend_on_the_cache_the_folder_and_the_environment(tmp_path, monkeypatch) -> None:
    """Another name of the cache, of another length, and other variables of the user's."""
    before = counted_once("litert")
    other = tmp_path / "a cache, with a longer name"
    other.mkdir()
    (other / "emulation").symlink_to(store.cache_folder())
    monkeypatch.setenv("EDGECNN_CACHE", str(other))
    monkeypatch.setenv("LD_PRELOAD_PATHS_" + "X" * 100, "Y" * 1000)
    monkeypatch.chdir(tmp_path)
    assert counted("pi5", "lenet5", "int8").per_inference == before.per_inference


@qemu
@counting
def test_int8_costs_less_than_fp32_on_a_pi_5() -> None:
    int8, fp32 = (counted("pi5", "resnet8", precision, repeat=1) for precision in ("int8", "fp32"))
    assert int8.instructions < 0.6 * fp32.instructions
    assert fp32.kinds["fmla32"] > 0 == fp32.kinds["dot"]


def test_threads_cannot_be_counted() -> None:
    with pytest.raises(UsageError, match="with one thread"):
        count_instructions(EmulatedHost(load_board("pi5")), "litert", b"", "net", [], threads=2)


@qemu
def test_no_compiler_is_said_plainly(tmp_path, monkeypatch) -> None:
    board = host("pi4")
    monkeypatch.setattr(programs, "compiler", lambda: None)
    monkeypatch.setattr(plugin, "plugin_folder", lambda _: tmp_path / "none")
    with pytest.raises(TargetError, match="pi4: there is no C compiler") as caught:
        board.start(counting=True)
    assert caught.value.hint == "apt install gcc libc6-dev"


@qemu
@counting
def test_a_qemu_of_another_interface_is_told(monkeypatch) -> None:
    monkeypatch.setattr(plugin, "qemu_version", lambda _: (9, 2))
    with pytest.raises(TargetError, match=r"QEMU 9\.2 cannot count instructions"):
        host("pi4").start(counting=True)


# --- hosts ------------------------------------------------------------------------------------------------------------


def test_a_board_that_is_not_built(tmp_path: Path) -> None:
    board = EmulatedHost(load_board("pi5"), tmp_path)
    assert (board.name, board.kind, board.environments) == ("pi5", "emulated", ("", "tflite-runtime"))
    for start in (board.start, board.start_counting):
        with pytest.raises(TargetError, match="pi5 has not been built yet") as caught:
            start()
        assert caught.value.hint == "edgecnn targets emulate pi5"


def test_an_unknown_environment_and_runtime(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="pi2 has no environment 'litert'"):
        EmulatedHost(load_board("pi2"), tmp_path).start("litert")
    with pytest.raises(TargetError, match="pi2 has no onnxruntime") as caught:
        EmulatedHost(load_board("pi2"), tmp_path).environment_of("onnxruntime")
    assert "no wheels for 32-bit" in caught.value.why


def test_nothing_of_the_user_reaches_a_program(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    command = python_command(load_board("pi5"), tmp_path, "", ["x.py"])
    assert command[:3] == ["/bin/env", "--ignore-environment", f"--chdir={tmp_path}"]
    assert sum(str(tmp_path) in part for part in command) == 1
    assert command[command.index("-cpu") + 1] == "cortex-a76"


# --- building ---------------------------------------------------------------------------------------------------------


def test_the_cache_folder(monkeypatch, tmp_path: Path) -> None:
    for variable in ("EDGECNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.cache_folder() == tmp_path / ".cache" / "edgecnn" / "emulation"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # to be ignored, says the specification
    assert store.cache_folder() == tmp_path / ".cache" / "edgecnn" / "emulation"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert store.cache_folder() == tmp_path / "x" / "edgecnn" / "emulation"
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "own"))
    assert store.cache_folder() == tmp_path / "own" / "emulation"
    assert store.cache_folder(tmp_path) == tmp_path / "emulation"


@pytest.fixture
def pretended(monkeypatch) -> list[str]:
    """Builds without downloads; says what was made."""
    made: list[str] = []

    def unpack_userland(architecture, emulation, folder) -> None:
        made.append(f"userland {architecture}")
        (folder / "usr" / "bin").mkdir(parents=True)
        (folder / ".packages").write_text("libc6_2.36_arm64.deb\n")

    def unpack_wheels(architecture, python, pins, folder) -> None:
        made.append(f"wheels {len(pins)}")
        (folder / "numpy").mkdir()

    monkeypatch.setattr(building, "unpack_userland", unpack_userland)
    monkeypatch.setattr(building, "unpack_wheels", unpack_wheels)
    monkeypatch.setattr(building, "try_board", lambda board, _: made.append(f"trial {board.name}"))
    monkeypatch.setattr(building, "build_plugin", lambda _: None)
    monkeypatch.setattr(building, "emulation_problems", lambda _: [])
    return made


def test_a_build_is_done_once_and_shared(pretended, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    pi4, pi5 = load_board("pi4"), load_board("pi5")
    assert not is_built(pi4, tmp_path)
    first = build_board(pi4, cache=tmp_path, progress=lambda *step: steps.append(step))
    assert first.fresh
    assert first.packages == ("libc6_2.36_arm64.deb",)
    assert [(done, total) for _, done, total in steps] == [(i, 5) for i in range(6)]
    assert (first.prefix / "usr" / "bin").is_dir()
    assert (first.prefix / "edgecnn" / "tflite-runtime" / "numpy").is_dir()
    assert (first.prefix / "proc" / "device-tree" / "model").read_text() == "Raspberry Pi 4 Model B Rev 1.4\0"
    assert is_built(pi4, tmp_path)
    assert not build_board(pi4, cache=tmp_path).fresh
    assert build_board(pi5, cache=tmp_path).fresh
    assert pretended == ["userland aarch64", "wheels 10", "wheels 2", "trial pi4", "trial pi5"]
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    assert is_built(pi4, moved)
    assert (moved / first.prefix.relative_to(tmp_path) / "edgecnn" / "default" / "numpy").is_dir()
    moved.rename(tmp_path)


def test_removal_spares_what_others_use(pretended, tmp_path: Path) -> None:
    pi4, pi5 = load_board("pi4"), load_board("pi5")
    for board in (pi4, pi5):
        build_board(board, cache=tmp_path)
    assert remove_board(pi4, tmp_path)
    assert not remove_board(pi4, tmp_path)
    assert is_built(pi5, tmp_path)
    assert not is_built(pi4, tmp_path)
    assert remove_board(pi5, tmp_path)
    left = [path for part in ("boards", "roots", "sites") for path in (tmp_path / "emulation" / part).glob("[!.]*")]
    assert left == []
    assert not remove_board(pi5, tmp_path / "never")


def test_a_changed_recipe_is_built_anew(pretended, tmp_path: Path, monkeypatch) -> None:
    import msgspec

    board = load_board("pi4")
    build_board(board, cache=tmp_path)
    other = msgspec.structs.replace(board, memory_mb=2048)
    assert not is_built(other, tmp_path)
    build_board(other, cache=tmp_path)
    assert pretended[3:] == ["trial pi4", "trial pi4"]
    monkeypatch.setattr(store, "LAYOUT", store.LAYOUT + 1)
    assert not is_built(board, tmp_path)
    build_board(board, cache=tmp_path)
    assert pretended[5:] == ["userland aarch64", "wheels 10", "wheels 2", "trial pi4"]
    assert remove_board(board, tmp_path)
    assert list((tmp_path / "emulation" / "boards").glob("[!.]*")) == []


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), TargetError("no"), OSError(errno.ENOSPC, "No space left", "/x")]
)
def test_what_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    folder = tmp_path / "a" / "thing"

    def fail(partial: Path) -> None:
        (partial / "half").write_text("half")
        raise error

    expected = TargetError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught:
        store.ensure(folder, fail)
    assert [path.name for path in folder.parent.iterdir() if not path.name.startswith(".")] == []
    if isinstance(error, OSError):
        assert str(caught.value).startswith("cannot build thing: No space left\n  where: /x\n  try:   make room")
    assert store.ensure(folder, lambda partial: (partial / "whole").touch())
    assert not store.ensure(folder, fail)


def test_two_builds_at_once_make_one(tmp_path: Path) -> None:
    made: list[int] = []

    def make(partial: Path) -> None:
        time.sleep(0.05)
        made.append(1)

    threads = [threading.Thread(target=store.ensure, args=(tmp_path / "thing", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_a_killed_build_left_is_swept(tmp_path: Path) -> None:
    """By SIGKILL, in the middle; its lock has ended with it."""
    program = f"""
        import time
        from pathlib import Path
        from edgecnn.targets.emulation.cache import ensure
        def make(partial):
            (partial / "read-only").mkdir(mode=0o555)
            print("begun", flush=True)
            time.sleep(1000)
        ensure(Path({str(tmp_path / "thing")!r}), make)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        process.kill()
    assert (tmp_path / "thing.partial").is_dir()
    assert store.ensure(tmp_path / "thing", lambda partial: None)
    assert not (tmp_path / "thing.partial").exists()


def test_what_is_missing_here_is_told_with_the_command_that_gets_it(monkeypatch, tmp_path: Path) -> None:
    board = load_board("pi2")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "KEYRING", tmp_path / "none.gpg")
    problems = emulation_problems(board)
    assert [p.hint for p in problems] == [
        "apt install qemu-user", "a Debian system", "apt install dpkg", "apt install debian-archive-keyring",
        "apt install gcc libc6-dev",
    ]  # fmt: skip
    assert [p.fatal for p in problems] == [True, True, True, True, False]
    with pytest.raises(TargetError, match="cannot build pi2: qemu-arm is not installed"):
        build_board(board, cache=tmp_path)
    assert emulation_problems(load_board("local")) == []
    with pytest.raises(UsageError, match="nothing to emulate"):
        build_board(load_board("local"))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            "echo first; echo 'E: Unable to fetch' >&2; exit 100",
            "exit code 100\n  why:.*\n.*first\n.*E: Unable to fetch",
        ),
        ("sleep 100", "did not end within 0.5 s"),
        ("kill -9 $$", "exit code -9"),
    ],
    ids=["fails", "hangs", "killed"],
)
def test_a_programs_last_words_are_told(program: str, words: str) -> None:
    with pytest.raises(TargetError, match=rf"the userland.*{words}") as caught:
        programs.run_program("the userland", ["sh", "-c", program], time_limit=0.5, hint="try again")
    assert caught.value.hint


def test_an_interrupt_ends_the_program(tmp_path: Path) -> None:
    """Ctrl-C comes to this process alone, and takes with it whatever was started."""
    program = f"""
        from edgecnn.targets.emulation.programs import run_program
        run_program("x", ["sh", "-c", "echo $$ > {tmp_path}/pid; sleep 1000"], time_limit=1000)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.stderr.read()
    pid = int((tmp_path / "pid").read_text())
    wait_until_gone(pid)


@qemu
def test_a_mirror_that_does_not_answer(monkeypatch, tmp_path: Path) -> None:
    """apt's own words, and nothing left behind."""
    monkeypatch.setattr(userland, "debian_source", lambda: userland.AptSource("http://127.0.0.1:9/debian"))
    with pytest.raises(TargetError, match="the aarch64 userland: apt-get failed") as caught:
        build_board(load_board("pi4"), cache=tmp_path)
    assert "127.0.0.1" in caught.value.why
    assert "network" in caught.value.hint
    left = [p.name for p in (tmp_path / "emulation" / "roots").iterdir() if not p.name.startswith(".")]
    assert left == []


def test_a_wheel_with_another_hash_is_refused(monkeypatch, tmp_path: Path) -> None:
    """pip itself says so."""
    (tmp_path / "x-1-py3-none-any.whl").write_bytes(b"PK")
    pins = tmp_path / "wheels.txt"
    pins.write_text("x==1 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setattr(wheels, "PINS", pins)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "site").mkdir()
    with pytest.raises(TargetError, match="aarch64 wheels: pip failed") as caught:
        wheels.unpack_wheels("aarch64", "3.11", ["x==1"], tmp_path / "site")
    assert "HASHES" in caught.value.why
    with pytest.raises(TargetError, match="y==1 has no row"):
        wheels.unpack_wheels("aarch64", "3.11", ["y==1"], tmp_path / "site")
