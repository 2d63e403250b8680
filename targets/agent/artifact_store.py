"""Artifacts that a host has sent before, in memory and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
from pathlib import Path

from edgecnn.targets.agent.messages import MAX_PAYLOAD

MEMORY_CACHE = 2**26  # bytes of artifacts in memory
DISK_CACHE = 2**28  # bytes of artifacts on disk, which may be a small SD card
DIGEST = re.compile("[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"
_ABANDONED = 600.0  # seconds after which nobody is still writing an unfinished file


class ArtifactStore:
    """Artifacts by their SHA-256: in memory, and on disk for a host that asks for it.

    The folder belongs to the user, files are named by digests that were computed here, and a file that is read is
    checked again. A file appears complete or not at all.

    Args:
        memory: Bytes of artifacts that may stay in memory.
        disk: Bytes of artifacts that may stay on disk.
    """

    def __init__(self, memory: int = MEMORY_CACHE, disk: int = DISK_CACHE) -> None:
        self._memory, self._disk = memory, disk
        self._in_memory: dict[str, bytes] = {}

    def find(self, digest: str, *, disk: bool) -> bytes | None:
        """Return the artifact, or None if it has to be sent."""
        data = self._in_memory.get(digest)
        if data is None and disk:
            with contextlib.suppress(OSError, RuntimeError):
                data = self._read(digest)
        if data is not None:
            self._remember(digest, data)
        return data

    def store(self, digest: str, data: bytes, *, disk: bool) -> str | None:
        """Store an artifact whose digest has been checked; return why it could not be stored on disk, or None."""
        self._remember(digest, data)
        if not disk:
            return None
        try:
            folder = artifact_folder()
        except RuntimeError as error:  # no home folder
            return str(error)
        try:
            self._write(folder, digest, data)
        except OSError as error:
            return f"{error.strerror or error}: {folder}"
        return None

    def _remember(self, digest: str, data: bytes) -> None:
        self._in_memory.pop(digest, None)
        self._in_memory[digest] = data  # at the end: the least recently used artifact is removed first
        while sum(map(len, self._in_memory.values())) > self._memory:
            del self._in_memory[next(iter(self._in_memory))]

    def _read(self, digest: str) -> bytes | None:
        path = artifact_folder() / digest
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(MAX_PAYLOAD + 1)
        if hashlib.sha256(data).hexdigest() != digest:
            path.unlink()
            return None
        os.utime(path)  # so that the least recently used file is removed first
        return data

    def _write(self, folder: Path, digest: str, data: bytes) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(1, "not a folder that only this user can write to")
        self._make_room(folder, len(data))
        descriptor, path = tempfile.mkstemp(prefix=_UNFINISHED, dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(path).replace(folder / digest)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise

    def _make_room(self, folder: Path, size: int) -> None:
        """Remove unfinished files of agents that were killed, and the least recently used files beyond the limit."""
        files = [(path.lstat(), path) for path in folder.iterdir()]
        for status, path in files:
            if path.name.startswith(_UNFINISHED) and status.st_mtime < time.time() - _ABANDONED:
                path.unlink()
        by_age = sorted(
            (status.st_mtime, status.st_size, path) for status, path in files if DIGEST.fullmatch(path.name)
        )
        total = sum(item[1] for item in by_age)
        for _, freed, path in by_age:
            if total + size <= self._disk:
                return
            path.unlink()
            total -= freed
        if size > self._disk:
            raise OSError(27, f"larger than the {self._disk} bytes that are kept")


def artifact_folder() -> Path:
    """Return the folder for artifacts on disk, which is in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "edgecnn-agent"
