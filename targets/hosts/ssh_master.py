"""One connection per host, shared by all sessions: OpenSSH's own multiplexing.

The connection is a process of ssh (its "master") that listens on a socket in a folder that only this user can enter. It
ends when this process ends, and also when no session has used it for some seconds, so that it does not remain when this
process is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LINGER = 15  # seconds for which a connection without sessions stays open
_LONGEST_PATH = 65  # characters; a socket's path may have 107, with the folder's name and ssh's suffix
_LONGEST_MESSAGE = 2**14  # bytes of ssh's error message
_QUIET: Mapping[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}

_guard = threading.Lock()
_masters: dict[tuple[str, ...], Master] = {}
_folders: dict[int, Path] = {}  # by process id: a fork has its own


class MasterError(Exception):
    """ssh could not connect; the text is its error message, or empty if it did not answer in time."""


class Master:
    """The connection to one host; made by `master_of`. Several threads may use it at once.

    Args:
        ssh: The program and its options.
        destination: The destination as ssh accepts it.
        socket: The path at which sessions find the connection.
    """

    def __init__(self, ssh: Sequence[str], destination: str, socket: Path) -> None:
        self.socket = socket
        self._ssh = [*ssh, "-o", f"ControlPath={socket}"]
        self._destination = destination
        self._lock = threading.Lock()

    def connect(self, seconds: float) -> None:
        """Connect, unless there is a connection that works.

        Raises:
            MasterError: ssh could not connect.
            OSError: ssh is not installed.
        """
        with self._lock:
            if self.socket.exists():
                if self._control("check"):
                    return
                self.socket.unlink(missing_ok=True)  # of a connection that was cut
            self._start(seconds)

    def end(self) -> None:
        """End the connection and with it all sessions. This has no effect the second time."""
        if self.socket.exists():
            self._control("exit")

    def _control(self, what: str) -> bool:
        """Send a control command to the master; return whether it succeeded."""
        command = [*self._ssh, "-O", what, "--", self._destination]
        try:
            done = subprocess.run(command, **_QUIET, stderr=subprocess.DEVNULL, check=False, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _start(self, seconds: float) -> None:
        # -f: ssh returns once it is connected and continues in the background. Its messages go to a file, since a pipe
        # would stay open.
        options = ["-M", "-N", "-f", "-o", f"ControlPersist={LINGER}"]
        command = [*self._ssh, *options, "--", self._destination]
        with tempfile.TemporaryFile() as words:
            process = subprocess.Popen(command, **_QUIET, stderr=words, env=environment(), start_new_session=True)
            try:
                code = process.wait(seconds)
            except BaseException as error:
                _kill_group(process)
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise MasterError from error
                raise
            if code:
                _kill_group(process)
                words.seek(0)
                raise MasterError(
                    words.read(_LONGEST_MESSAGE).decode("utf-8", "replace").strip() or f"exit code {code}"
                )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a proxy command that ssh has started: ssh sends it a hang-up signal, which it may ignore (nohup)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """Return the environment variables for ssh: those of this process, with English messages."""
    return {**os.environ, "LC_ALL": "C"}


def master_of(ssh: Sequence[str], destination: str) -> Master:
    """Return the one connection for these options and this destination."""
    with _guard:
        folder = _folder()
        key = (str(os.getpid()), *ssh, destination)
        if key not in _masters:
            _masters[key] = Master(ssh, destination, folder / str(len(_masters)))
        return _masters[key]


def _folder() -> Path:
    pid = os.getpid()
    if pid not in _folders:
        _folders[pid] = Path(tempfile.mkdtemp(prefix="edgecnn-", dir=_short_folder()))  # with mode 0700
        atexit.register(_end_all, pid)
    return _folders[pid]


def _short_folder() -> str | None:
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp
        if folder.startswith("/") and len(folder) <= _LONGEST_PATH and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def _end_all(owner: int) -> None:
    if os.getpid() != owner:  # the connections of a process that has forked are its own
        return
    for key, master in list(_masters.items()):
        if key[0] == str(owner):
            master.end()
    shutil.rmtree(_folders.pop(owner), ignore_errors=True)
