"""Boards' files: complete, without contradictions, refused by name where wrong; and what boards say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecnn.errors import UsageError
from edgecnn.targets.boards import HERE, load_board, load_boards, read_board
from edgecnn.targets.emulation.board_wheels import pinned_wheels, requirements_of
from edgecnn.targets.emulation.host_programs import QEMU
from edgecnn.targets.emulation.prefix import cpuinfo, machine_files, midr
from edgecnn.targets.emulation.userland import ARCHITECTURES, AptSource, debian_source
from edgecnn.targets.runtimes import RUNTIMES

FILES = sorted(HERE.glob("*.toml"))
EMULATED = [board for board in load_boards().values() if board.kind == "emulated"]
# The registers of the cores themselves, as Linux shows them on the boards.
MIDR = {"pi2": 0x410FC075, "pi3": 0x410FD034, "zero2w": 0x410FD034, "pi4": 0x410FD083, "pi5": 0x414FD0B1}


def named(board) -> str:
    return board.name


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_boards_that_issues_and_docs_speak_of() -> None:
    expected = {"pi5", "pi4", "pi3", "zero2w", "pi2", "x86-64-v2", "x86-64-v3", "local"}
    assert set(load_boards()) == expected == {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_complete(file: Path) -> None:
    board = read_board(file)
    assert board.title
    if board.kind == "local":
        return
    assert board.memory_mb >= 512
    assert board.cores == 4
    assert board.frequency_mhz.min < board.frequency_mhz.max
    assert board.architecture in QEMU.keys() & ARCHITECTURES.keys()
    assert set(board.runtimes) | set(board.missing) == set(RUNTIMES)
    assert all(len(reason) > 10 for reason in board.missing.values())
    for environment in board.emulation.environments:
        assert requirements_of(environment.wheels).count("--hash=sha256:") >= len(environment.wheels)


def test_every_pinned_wheel_is_some_boards() -> None:
    used = {wheel for board in EMULATED for e in board.emulation.environments for wheel in e.wheels}
    assert used == set(pinned_wheels())


def test_an_unknown_board_is_told_the_others() -> None:
    with pytest.raises(UsageError, match="there is no board 'pi6'") as caught:
        load_board("pi6")
    assert caught.value.hint.startswith("pi5? the boards are local, pi2")


PI5 = (HERE / "pi5.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("memory_mb = 8192", "", "memory_mb is missing"),
        ("title =", "titel =", "titel"),
        ("cores = 4", 'cores = "four"', r"\$.cores"),
        ("max = 2400, ", "", "missing required field `max`.*frequency_mhz"),
        ('name = "pi5"', 'name = "pi6"', "name is 'pi6', the file's is 'pi5'"),
        ('architecture = "aarch64"', 'architecture = "mips"', r"\$.architecture"),
        ('architecture = "aarch64"', 'architecture = "any"', "architecture is 'any'"),
        ('architecture = "aarch64"', 'architecture = "x86_64"', "x86 is missing"),
        ('onnxruntime = "1.31.1"\n', "", "onnxruntime is neither in runtimes nor in missing"),
        ("[missing]", '[missing]\nlitert = "no"', "litert is both in runtimes and in missing"),
        ("[missing]", '[missing]\ntvm = "no"', "there is no runtime tvm"),
        ('litert = "2.3.0"', 'litert = "2.2.0"', "no wheel ai-edge-litert==2.2.0"),
        ('name = "tflite-runtime"', 'name = "tflite"', r"environments are \['', 'tflite', 'openvino'\]"),
        ('kind = "emulated"', 'kind = "local"', "nothing but its name and title"),
        ("[emulation]", "[emulation", "pi5.toml describes no board"),
    ],
    ids=str,
)
def test_a_wrong_file_is_refused_with_the_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in PI5
    (tmp_path / "pi5.toml").write_text(PI5.replace(old, new, 1))
    with pytest.raises(UsageError, match=words) as caught:
        read_board(tmp_path / "pi5.toml")
    assert "pi5.toml" in caught.value.message
    assert caught.value.where == str(tmp_path / "pi5.toml")


def test_a_board_is_added_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PI5.replace('name = "pi5"', 'name = "mine"', 1))
    assert list(load_boards(tmp_path)) == ["mine"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "pi5.toml").mkdir()
    with pytest.raises(UsageError, match=r"pi5.toml cannot be read"):
        read_board(tmp_path / "pi5.toml")


# --- what programs on a board read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", EMULATED, ids=named)
def test_cpuinfo_has_every_core_with_its_features(board) -> None:
    text = cpuinfo(board)
    assert text.count("processor\t") + text.count("processor      \t") == board.cores
    key = "flags" if board.x86 else "Features"
    lines = [line.partition(":")[2].split() for line in text.splitlines() if line.startswith(key)]
    assert lines == [list(board.features)] * board.cores
    assert (board.arm.model if board.arm else board.x86.model_name) in text


@pytest.mark.parametrize("board", EMULATED, ids=named)
def test_files_state_memory_cores_and_clock(board) -> None:
    files = machine_files(board)
    assert f"MemTotal:       {board.memory_mb * 1024} kB" in files["proc/meminfo"]
    assert files["sys/devices/system/cpu/online"] == "0-3\n"
    clock = files["sys/devices/system/cpu/cpu3/cpufreq/cpuinfo_max_freq"]
    assert int(clock) == board.frequency_mhz.max * 1000
    assert all(not path.startswith("/") and ".." not in path for path in files)


@pytest.mark.parametrize(("name", "expected"), MIDR.items())
def test_identification_registers(name: str, expected: int) -> None:
    """The core that cpuinfo tells of is the one that QEMU is told to be: else programs take instructions it lacks."""
    board = load_board(name)
    assert midr(board.arm) == expected
    cores = {0xD03: "cortex-a53", 0xD08: "cortex-a72", 0xD0B: "cortex-a76", 0xC07: "cortex-a7"}
    assert board.cpu == cores[expected >> 4 & 0xFFF]


# --- where packages come from -----------------------------------------------------------------------------------------

DEB822 = """
# A comment
Types: deb deb-src
URIs: http://ftp.example.org/debian
Suites: trixie trixie-updates
Components: main contrib
Trusted: yes
Signed-By: /etc/apt/keyrings/debian.gpg

Types: deb
URIs: http://ftp.example.org/debian-security
Suites: trixie-security
Components: main
"""
DEFAULT = AptSource()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, DEFAULT),
        ({"sources.list.d/debian.sources": DEB822},
         AptSource("http://ftp.example.org/debian", "/etc/apt/keyrings/debian.gpg")),
        ({"sources.list.d/debian.sources": DEB822.replace("Types: deb deb-src", "Enabled: no\nTypes: deb")}, DEFAULT),
        ({"sources.list": "deb http://a.example/debian bookworm main\n"}, AptSource("http://a.example/debian")),
        ({"sources.list": "deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://a.example/debian/ bookworm main # x"},
         AptSource("http://a.example/debian/", "/k.gpg")),
        ({"sources.list": "# deb http://a.example/debian bookworm main\ndeb-src http://b.example/debian bookworm main"},
         DEFAULT),
        ({"sources.list.d/other.list": "deb https://packages.example.com/apt stable main"}, DEFAULT),
        ({"sources.list": "deb http://b.example/debian-security bookworm-security main"}, DEFAULT),
    ],
    ids=["none", "deb822", "disabled", "one line", "options", "commented", "other packages", "security alone"],
)  # fmt: skip
def test_the_machines_own_mirror(tmp_path: Path, files: dict[str, str], expected: AptSource) -> None:
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text('NAME="Debian GNU/Linux"\nID=debian\n')
    for name, text in files.items():
        (tmp_path / "apt" / name).write_text(text)
    assert debian_source(tmp_path) == expected
    assert "trusted" not in debian_source(tmp_path).stanza("bookworm").lower()


def test_other_systems_use_debians_mirror(tmp_path: Path) -> None:
    (tmp_path / "apt").mkdir()
    (tmp_path / "os-release").write_text("ID=ubuntu\nID_LIKE=debian\n")
    (tmp_path / "apt" / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    assert debian_source(tmp_path) == AptSource()
