"""Output files: each is written completely or not at all, and an unwritable path is refused before any work starts."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from edgecnn.errors import UsageError


def check_writable(path: Path) -> None:
    """Raise early the error that `write_whole` would raise.

    Raises:
        UsageError: The path is a folder, or its folder cannot be created or written to.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", why="a file is written there", hint=f"{path / 'FILE'}")
    folder = path.resolve().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = f"{folder} is not a folder" if not folder.is_dir() else f"{folder} may not be written to"
        if not _is_device(path):
            raise UsageError(f"{path} cannot be written", why=why, hint="another file")


def write_whole(path: Path, data: bytes, *, new: bool = False) -> None:
    """Write a file completely or not at all.

    Missing folders are created, the permissions of an existing file are kept, and symbolic links are followed.

    Args:
        path: The file.
        data: Its bytes.
        new: Never replace an existing file.

    Raises:
        UsageError: The file cannot be written, or exists and must not be replaced.
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
        raise UsageError(f"{path} already exists", why="it is never replaced", hint="edit it") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error), hint="another file") from error


def make_folder_of(path: Path) -> None:
    """Create the folder of a file that is about to be written.

    Raises:
        UsageError: The folder cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {path.parent} cannot be created", why=error.strerror or str(error)) from error


def _is_device(path: Path) -> bool:
    """Whether the path is a pipe, a device or a shell redirection, which must be written to and never replaced."""
    there = path.exists() and not path.is_dir()
    return there and (not path.is_file() or path.is_relative_to("/dev") or path.is_relative_to("/proc"))
