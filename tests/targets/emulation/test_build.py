"""Building boards: once, shared, whole or not at all, and what is missing is told with the command that gets it."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from support.emulated import qemu
from support.processes import wait_until_gone

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import (
    board_wheels,
    build_board,
    emulation_problems,
    host_programs,
    is_built,
    remove_board,
    userland,
)
from edgecnn.targets.emulation import build as building
from edgecnn.targets.emulation import cache as store


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
    assert [(done, total) for _, done, total in steps] == [(i, 6) for i in range(7)]
    assert (first.prefix / "usr" / "bin").is_dir()
    assert (first.prefix / "edgecnn" / "tflite-runtime" / "numpy").is_dir()
    assert (first.prefix / "proc" / "device-tree" / "model").read_text() == "Raspberry Pi 4 Model B Rev 1.4\0"
    assert is_built(pi4, tmp_path)
    assert not build_board(pi4, cache=tmp_path).fresh
    assert build_board(pi5, cache=tmp_path).fresh
    assert pretended == ["userland aarch64", "wheels 10", "wheels 2", "wheels 2", "trial pi4", "trial pi5"]
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
    assert pretended[4:] == ["trial pi4", "trial pi4"]
    monkeypatch.setattr(store, "LAYOUT", store.LAYOUT + 1)
    assert not is_built(board, tmp_path)
    build_board(board, cache=tmp_path)
    assert pretended[6:] == ["userland aarch64", "wheels 10", "wheels 2", "wheels 2", "trial pi4"]
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
    monkeypatch.setattr(host_programs, "KEYRING", tmp_path / "none.gpg")
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
        host_programs.run_program("the userland", ["sh", "-c", program], time_limit=0.5, hint="try again")
    assert caught.value.hint


def test_an_interrupt_ends_the_program(tmp_path: Path) -> None:
    """Ctrl-C comes to this process alone, and takes with it whatever was started."""
    program = f"""
        from edgecnn.targets.emulation.host_programs import run_program
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
    monkeypatch.setattr(board_wheels, "PINS", pins)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "site").mkdir()
    with pytest.raises(TargetError, match="aarch64 wheels: pip failed") as caught:
        board_wheels.unpack_wheels("aarch64", "3.11", ["x==1"], tmp_path / "site")
    assert "HASHES" in caught.value.why
    with pytest.raises(TargetError, match="y==1 has no row"):
        board_wheels.unpack_wheels("aarch64", "3.11", ["y==1"], tmp_path / "site")
