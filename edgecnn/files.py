"""Files that the user asked for: written whole or not at all, and refused before any work is done."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from edgecnn.errors import UsageError


def check_writable(path: Path) -> None:
    """Say early what `write_whole` would refuse.

    Raises:
        UsageError: It is a folder, or lies where none can be made or written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", why="a file is to be written there", hint=f"{path / 'FILE'}")
    folder = path.resolve().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = f"{folder} is not a folder" if not folder.is_dir() else f"{folder} may not be written to"
        if not _is_device(path):
            raise UsageError(f"{path} cannot be written", why=why, hint="another file")


def write_whole(path: Path, data: bytes, *, new: bool = False) -> None:
    """Write a file, whole or not at all. Its folder is made if need be; permissions stay; symbolic links are followed.

    Args:
        path: The file.
        data: Its bytes.
        new: Never replace one that is there.

    Raises:
        UsageError: It cannot be written, or is there and must not be replaced.
    """
    target = path.resolve()
    try:
        if _is_device(path):
            with path.open("wb") as file:
                file.write(data)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        descriptor, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(part).chmod(mode)
            if new:
                target.hardlink_to(part)  # unlike a rename this never replaces
            else:
                Path(part).replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(part).unlink()
    except FileExistsError as error:
        raise UsageError(f"{path} is there already", why="it is never replaced", hint="edit it") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error), hint="another file") from error


def make_folder_of(path: Path) -> None:
    """Make the folder that a file is to be written in.

    Raises:
        UsageError: It cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {path.parent} cannot be made", why=error.strerror or str(error)) from error


def _is_device(path: Path) -> bool:
    """A pipe, say, or what the shell has redirected, which must not be put another file in place of."""
    there = path.exists() and not path.is_dir()
    return there and (not path.is_file() or path.is_relative_to("/dev") or path.is_relative_to("/proc"))
