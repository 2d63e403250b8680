"""Files are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgecnn.errors import UsageError
from edgecnn.files import check_writable, write_whole


def test_a_file_is_replaced_with_its_permissions_and_through_its_link(tmp_path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o600)
    write_whole(tmp_path / "a" / "b", b"deep")
    assert (tmp_path / "a" / "b").read_bytes() == b"deep"


def test_what_cannot_be_put_in_place_leaves_nothing(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="cannot be written") as stop:
        write_whole(tmp_path / "file", b"new")
    assert stop.value.why == "No space left on device"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_new_file_never_replaces_one(tmp_path) -> None:
    write_whole(tmp_path / "file", b"one", new=True)
    with pytest.raises(UsageError, match="already exists"):
        write_whole(tmp_path / "file", b"two", new=True)
    assert (tmp_path / "file").read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_the_shell_has_redirected_is_written_to(tmp_path) -> None:
    code = "from pathlib import Path; from edgecnn.files import write_whole; write_whole(Path('/dev/stdout'), b'said')"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"said"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_written_is_told_early(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "deep" / "er" / "file")
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(UsageError) as stop:
        check_writable(tmp_path / "file" / "x")
    assert stop.value.why.endswith("file is not a folder")
