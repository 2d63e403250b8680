"""Artifacts kept on a device: sent once, never run where damaged, and not kept where there is no room."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest
from support.ssh_device import X
from support.sshd import needs_sshd, sshd

from edgecnn.targets.agent import messages

pytestmark = needs_sshd


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
