"""What the agent keeps of artifacts: in memory and on disk, within bounds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edgecnn.targets.agent import artifact_store


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
