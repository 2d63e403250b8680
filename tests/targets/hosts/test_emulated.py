"""Emulated boards as hosts: what is not built or not known, and what does not reach their programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgecnn.errors import TargetError
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation.command import python_command
from edgecnn.targets.hosts.emulated import EmulatedHost


def test_a_board_that_is_not_built(tmp_path: Path) -> None:
    board = EmulatedHost(load_board("pi5"), tmp_path)
    assert (board.name, board.kind, board.environments) == ("pi5", "emulated", ("", "tflite-runtime", "openvino"))
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
