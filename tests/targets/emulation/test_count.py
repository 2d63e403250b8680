"""Instructions counted on emulated boards: the same in every run, and on whom they do not depend."""

from __future__ import annotations

import subprocess
import time
from functools import cache
from typing import Any

import pytest
from support.emulated import artifact, counting, host, qemu

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import cache as store
from edgecnn.targets.emulation import count_instructions, host_programs, plugin
from edgecnn.targets.emulation.command import Counting
from edgecnn.targets.hosts.emulated import EmulatedHost
from edgecnn.targets.hosts.session import Session

COUNTED = {"onnxruntime": "onnx", "litert": "tflite", "tflite-runtime": "tflite"}
"""Runtimes whose instructions are counted, and the format of each."""


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
    monkeypatch.setattr(host_programs, "compiler", lambda: None)
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
