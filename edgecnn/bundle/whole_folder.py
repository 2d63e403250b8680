"""Write a folder completely or not at all.

The files are written to ``.NAME.edgecnn-XXXXXXXX`` in the parent of the destination, synced to disk, and put in place
in one step: by a rename if the destination does not exist, else by exchanging the two folders (Linux ``renameat2``,
macOS ``renamex_np``). If the process is killed at any time, either the old or the new folder remains. The temporary
folder then holds what is to be deleted, the unfinished new folder or the replaced old one. The next run for the same
destination deletes leftovers of killed runs. A run locks its temporary folder, so that no other run deletes it.

If the operating system or the file system cannot exchange folders, the old folder is first renamed to
``.NAME.edgecnn-XXXXXXXX.old``. Only a kill between these two renames leaves no folder in place; the next run then
starts by renaming the old one back. On file systems that cannot lock folders (some network ones), leftovers are never
deleted.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgecnn.errors import BundleError

Check = Callable[[Path], None]

_ATTEMPTS = 100
_TEMPORARY = re.compile(r"/\.[^/]*\.edgecnn-[0-9a-f]{8}.*", re.DOTALL)
_NO_EXCHANGE = frozenset((errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM))
_CAME_BETWEEN = frozenset((errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT))


def replace_folder(
    directory: Path, write: Callable[[Path], None], *, may_replace: Check, needed: int | None = None
) -> None:
    """Write a folder and put it in place, or change nothing.

    Args:
        directory: The destination. Symbolic links are followed, and missing parents are created.
        write: Writes the files into an empty folder.
        may_replace: Raises if an existing folder must not be replaced. It is called before anything is written, and
            again just before the replacement.
        needed: Number of bytes that will be written, if known, for the message about a full disk.

    Raises:
        BundleError: if the destination is refused, or the operating system reports an error (disk full, no
            permission).
    """
    try:
        target = check_replaceable(directory, may_replace)
        with _parents(target), _temporary(target) as folder:
            write(folder)
            _sync_tree(folder)
            _put_in_place(folder, target, may_replace)
            _settle(folder, target)
    except OSError as err:
        raise _explained(err, directory, needed) from err


def check_replaceable(directory: Path, may_replace: Check) -> Path:
    """Raise early the error that :func:`replace_folder` would raise, and clean up after killed runs.

    Returns:
        The destination, absolute and free of symbolic links.

    Raises:
        BundleError: if the destination is a file, protected, not writable, or refused by ``may_replace``.
    """
    try:
        target = Path(os.path.realpath(directory))
        _sweep(target)
        _check(target, may_replace)
    except OSError as err:
        raise _explained(err, directory, None) from err
    return target


def interrupted(directory: Path) -> bool:
    """Whether a killed run has left the folder under its temporary name, from which the next run will restore it."""
    target = Path(os.path.realpath(directory))
    return not os.path.lexists(target) and any(name.suffix == ".old" for name in _leftovers(target))


def _check(target: Path, may_replace: Check) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise BundleError(f"{target} is not a folder", why="a folder is written there", hint="another name")
    reason = _protected(target)
    if reason:
        raise BundleError(f"{target} is never replaced", why=reason, hint=f"a folder inside it: {target / 'bundle'}")
    if not os.access(target, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    may_replace(target)


def _protected(target: Path) -> str:
    for what, place in _places():
        if any(target.samefile(ancestor) for ancestor in (place, *place.parents)):
            return f"it is or holds {what}"
    for root, folders, files in os.walk(target, onerror=_raise):
        if os.path.ismount(root):
            return f"{root} is a mount point"
        if ".git" in folders or ".git" in files:
            return f"{root} is the top folder of a git repository"
    return ""


def _places() -> list[tuple[str, Path]]:
    places = [("the root of the file system", Path("/"))]
    with suppress(OSError):  # it may have been deleted
        places.append(("the current folder", Path.cwd()))
    with suppress(OSError, RuntimeError):  # it may be unknown, or not exist
        places.append(("your home folder", Path.home().resolve(strict=True)))
    return places


def _raise(err: OSError) -> None:
    raise err


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Create missing parents, and remove them again if the work fails."""
    missing = [folder for folder in target.parents if not os.path.lexists(folder)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync(folder.parent)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # never created, or no longer empty
                folder.rmdir()
        raise


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Create a locked, empty folder next to the target; at the end, whatever folder has its name is removed."""
    folder, lock = _make_locked(target)
    try:
        yield folder
    finally:
        try:
            with suppress(OSError):  # report the first error; the next run cleans up
                _remove(folder)
        finally:
            os.close(lock)


def _make_locked(target: Path) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        folder = target.with_name(f".{target.name}.edgecnn-{secrets.token_hex(4)}")
        folder.mkdir()
        with suppress(BlockingIOError, FileNotFoundError):  # another run took it for a leftover: try a new name
            return folder, _lock(folder, required=False)
    raise BlockingIOError(errno.EBUSY, "other runs remove every temporary folder", str(target.parent))


def _lock(folder: Path, *, required: bool) -> int:
    """Lock a folder against other runs; the returned descriptor holds the lock.

    Raises:
        BlockingIOError: if another run holds it.
        FileNotFoundError: if the folder is gone, or has been exchanged meanwhile.
        OSError: if ``required`` and the file system has no such locks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            if required:
                raise
        if not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _leftovers(target: Path) -> list[Path]:
    name = re.compile(rf"\.{re.escape(target.name)}\.edgecnn-[0-9a-f]{{8}}(\.old)?")
    try:
        with os.scandir(target.parent) as entries:
            found = [entry for entry in entries if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
            mine = [entry.path for entry in found if entry.stat(follow_symlinks=False).st_uid == os.geteuid()]
    except OSError:
        return []  # the parent does not exist or cannot be read: nothing can be cleaned up
    return [Path(path) for path in sorted(mine)]


def _sweep(target: Path) -> None:
    """Restore or remove leftovers of killed runs. Locked folders belong to a running process."""
    for folder in _leftovers(target):
        with suppress(OSError):  # in use, gone, or not removable: no reason to stop this run
            lock = _lock(folder, required=True)
            try:
                if folder.suffix == ".old" and not os.path.lexists(target):
                    folder.rename(target)
                else:
                    _remove(folder)
            finally:
                os.close(lock)


def _remove(folder: Path) -> None:
    for _ in range(_ATTEMPTS):
        if not os.path.lexists(folder):
            return
        with suppress(FileNotFoundError):  # another run is removing it, too
            shutil.rmtree(folder)
    raise OSError(errno.EBUSY, "it reappears when it is removed", str(folder))


def _settle(replaced: Path, target: Path) -> None:
    """Sync the new folder's entry to disk, then remove the replaced folder."""
    try:
        _sync(target.parent)
        _remove(replaced)
    except OSError as err:
        raise BundleError(
            f"{target} is complete, but the folder that it replaced may be left",
            where=str(replaced),
            why=str(err),
            hint="remove that folder",
        ) from err


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder, topdown=False, onerror=_raise):
        for file in files:
            _sync(Path(root, file))
        _sync(Path(root))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as err:
        # Some network and FUSE file systems cannot sync folders, and need not.
        if err.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _put_in_place(folder: Path, target: Path, may_replace: Check) -> None:
    for attempt in range(_ATTEMPTS):
        _check(target, may_replace)
        try:
            if not os.path.lexists(target):
                folder.rename(target)
            else:
                shutil.copymode(target, folder)
                _swap(folder, target)
        except OSError as err:
            if err.errno not in _CAME_BETWEEN or attempt == _ATTEMPTS - 1:
                raise
            continue  # another run created or replaced the target meanwhile: check it again
        return


def _swap(folder: Path, target: Path) -> None:
    if _exchange(folder, target):
        return
    aside = folder.with_name(folder.name + ".old")
    # The lock keeps other runs from bringing the old folder back between the two renames.
    lock = _lock(target, required=False)
    try:
        _remove(aside)  # left by an earlier attempt, in which another run was faster
        target.rename(aside)
        folder.rename(target)
    except BaseException:
        if not os.path.lexists(target) and os.path.lexists(aside):
            aside.rename(target)
        raise
    finally:
        os.close(lock)
    _settle(aside, target)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders atomically; False if the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(first), os.fsencode(second)
    try:
        if sys.platform == "darwin":
            failed = libc.renamex_np(paths[0], paths[1], ctypes.c_uint(2))  # RENAME_SWAP
        else:
            here = ctypes.c_int(-100)  # AT_FDCWD
            failed = libc.renameat2(here, paths[0], here, paths[1], ctypes.c_uint(2))  # RENAME_EXCHANGE
    except AttributeError:
        return False  # the C library lacks the function
    number = ctypes.get_errno()
    if failed and number not in _NO_EXCHANGE:
        raise OSError(number, os.strerror(number), str(second))
    return not failed


def _explained(err: OSError, directory: Path, needed: int | None) -> BundleError:
    place = _TEMPORARY.sub("", str(err.filename or directory))
    match err.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return _no_room(err, directory, needed)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            reason, hint = f"no permission ({err.strerror})", "a folder that you may write to"
        case errno.EAGAIN:
            reason, hint = "another run is writing it", "try again after that run has ended"
        case errno.EBUSY:
            reason, hint = "it is a mount point, or the system uses it", "a folder inside it"
        case errno.EXDEV:
            reason, hint = "it belongs to a read-only layer, as in a container image", "remove it first"
        case errno.ENOTDIR | errno.EEXIST:
            reason, hint = "a parent of it is a file", "another folder"
        case errno.ENAMETOOLONG:
            reason, hint = "the name is too long", "a shorter name"
        case _:
            reason, hint = str(err.strerror or err), "another folder"
    return BundleError(f"cannot write {directory}", where=place, why=f"{reason}; nothing was changed", hint=hint)


def _no_room(err: OSError, directory: Path, needed: int | None) -> BundleError:
    room = str(err.strerror)
    with suppress(OSError):
        here = next(folder for folder in Path(os.path.realpath(directory)).parents if folder.is_dir())
        room += f", {shutil.disk_usage(here).free:,} bytes are free"
    if needed is not None:
        room += f", {needed:,} are needed in addition to the old folder"
    return BundleError(
        f"not enough disk space to write {directory}",
        where=str(directory),
        why=f"{room}; nothing was changed",
        hint="free some space, or a folder on another disk",
    )
