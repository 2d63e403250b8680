"""The cache: a folder is in it complete or not at all, even if several processes build at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from edgecnn.errors import TargetError

LAYOUT = 1
"""The version of what is built; it increases when the same recipe gives a different result."""


def cache_folder(cache: Path | None = None) -> Path:
    """Return the folder for boards: in the given folder, in ``$EDGECNN_CACHE``, or in the user's cache folder."""
    if cache is not None:
        return Path(cache).absolute() / "emulation"
    own = os.environ.get("EDGECNN_CACHE")
    if own:
        return Path(own).absolute() / "emulation"
    general = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(general) if Path(general).is_absolute() else Path.home() / ".cache"
    return base / "edgecnn" / "emulation"


def key(*recipe: object) -> str:
    """Return the digest of a recipe, for the name of a folder."""
    return hashlib.sha256(msgspec.json.encode([LAYOUT, *recipe], order="deterministic")).hexdigest()[:16]


def ensure(folder: Path, make: Callable[[Path], None]) -> bool:
    """Make a folder unless it exists; return whether it had to be made.

    It is made under another name and renamed when it is complete. Another process that needs the folder waits.

    Raises:
        TargetError: The folder cannot be written.
    """
    if folder.is_dir():
        return False
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock")):
            if folder.is_dir():
                return False
            remove_tree(partial)  # left by a process that was killed
            try:
                partial.mkdir()
                make(partial)
                partial.rename(folder)
            finally:
                remove_tree(partial)
    except OSError as error:
        raise TargetError(
            f"cannot build {folder.name}: {error.strerror or error}",
            where=str(error.filename or folder.parent),
            hint="make room there, or name another folder in EDGECNN_CACHE",
        ) from error
    return True


@contextlib.contextmanager
def locked(file: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock, which ends with the block or with this process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder if it exists, including its read-only parts."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o755)  # packages may contain folders that their owner may not write to
    shutil.rmtree(folder)
