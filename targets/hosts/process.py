"""A started program: pipes with time limits, its last words, and its certain end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

# Thread-pool variables (OMP_NUM_THREADS and its like) are the user's: threads are set per session, not here.
ENVIRONMENT: Mapping[str, str] = {"ORT_DISABLE_TELEMETRY": "1", "PYTHONHASHSEED": "0"}

_PIPE = 2**16  # bytes moved at once
_ROOM = 2**20  # bytes that may wait for the program: the next request lies ready while it works on the last
_LAST_LINES = 40
_LAST_BYTES = 2**16  # of stderr that are kept
_LONGEST_POLL = 2.0**31 - 1  # milliseconds
_GRACE = 5.0  # seconds for a program whose output has ended to end itself


class Child:
    """A program in a process group of its own, killed as a whole by `kill`, by garbage collection, or at exit.

    It has what `edgecnn.targets.agent.messages` calls Readable and Writable, so messages go through it directly.

    Args:
        command: The program and its arguments; no shell reads them.
        environment: Variables beside this process's own and `ENVIRONMENT`.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **ENVIRONMENT, **environment},
            start_new_session=True,  # a group to kill, and no Ctrl-C from the terminal: that is for this process
        )
        self._words = _LastWords(self._process.stderr)
        self._end = weakref.finalize(self, _kill_group, self._process, self._words, os.getpid())
        self._stdin, self._stdout = _descriptor(self._process.stdin), _descriptor(self._process.stdout)
        _widen(self._stdin)
        self._early = bytearray()  # output that came while there was something to write
        self._output_ended = False
        self._deadline = time.monotonic()

    @property
    def pid(self) -> int:
        """The process id, which is the id of its group too."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether `kill` is still to come. The program itself may have ended already."""
        return bool(self._end.alive)

    def limit(self, seconds: float) -> None:
        """Let all reads and writes from now on fail together after so many seconds."""
        self._deadline = time.monotonic() + seconds

    def readinto(self, buffer: Any, /) -> int:
        """Put 1 or more bytes of the program's stdout into `buffer`, and return how many; 0 at its end.

        Raises:
            TimeoutError: The limit has passed.
        """
        if self._early:
            size = min(len(self._early), len(buffer))
            memoryview(buffer)[:size] = self._early[:size]
            del self._early[:size]
            return size
        self._wait(self._stdout, select.POLLIN)
        return os.readv(self._stdout, [buffer])

    def read(self, size: int, /) -> bytes:
        """As `readinto`, and return them: `size` at most."""
        buffer = bytearray(min(size, _PIPE))
        return bytes(buffer[: self.readinto(buffer)])

    def read_now(self) -> bytes:
        """Return what lies in the program's stdout already, for error messages."""
        try:
            return bytes(self._early) + os.read(self._stdout, _PIPE)
        except BlockingIOError:
            return bytes(self._early)

    def write(self, data: Any, /) -> None:
        """Write all of `data` (any buffer) to the program's stdin.

        What the program says meanwhile is taken in for `read`, so that two who write to each other do not both wait.

        Raises:
            TimeoutError: The limit has passed.
            BrokenPipeError: The program has closed its stdin.
        """
        rest = memoryview(data)
        while rest:
            if self._output_ended:
                self._wait(self._stdin, select.POLLOUT)
            elif self._stdin not in self._wait(self._stdin, select.POLLOUT, self._stdout, select.POLLIN):
                self._take_early()
                continue
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._stdin, rest[:_ROOM]) :]

    def flush(self) -> None:
        """Do nothing: `write` keeps nothing back."""

    def close(self, seconds: float) -> None:
        """End stdin, give the program so many seconds to end by itself, and kill what is left."""
        if self.alive and self._process.stdin:
            self._process.stdin.close()
            self._ended_within(seconds)
        self.kill()

    def kill(self) -> None:
        """Kill the program and all it has started, and wait for its end. Doing it twice does no harm."""
        self._end()

    def autopsy(self) -> str:
        """Wait for the end of a program whose output has ended, and return how it went: ``crashed with SIGSEGV``."""
        by_itself = self._ended_within(_GRACE)
        self.kill()
        if not by_itself:
            return "closed its output without a whole answer, and was killed"
        return how_it_ended(self._process.returncode)

    @property
    def code(self) -> int | None:
        """The exit code, or the signal's number with a minus; None before the end."""
        return self._process.returncode

    def last_words(self) -> str:
        """Return the last lines of stderr; all of them are in once the program has been killed."""
        return self._words.text()

    def _take_early(self) -> None:
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self._stdout, _PIPE)
            self._early += chunk
            self._output_ended = not chunk

    def _wait(self, *descriptors_and_events: int) -> set[int]:
        """The descriptors that are ready, of pairs with the event that is awaited."""
        poll = select.poll()
        for descriptor, event in zip(descriptors_and_events[::2], descriptors_and_events[1::2], strict=True):
            poll.register(descriptor, event)
        remaining = max(0.0, self._deadline - time.monotonic())
        ready = {descriptor for descriptor, _ in poll.poll(min(remaining * 1000, _LONGEST_POLL))}
        if not ready:
            raise TimeoutError
        return ready

    def _ended_within(self, seconds: float) -> bool:
        # WNOWAIT leaves the ended process unreaped, so that its group's id cannot pass to a stranger before the kill.
        deadline = time.monotonic() + seconds
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored here: the system has reaped it
            while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.002)
        return True


class _LastWords:
    """Drains a pipe in a thread, so that a chatty program never blocks, and keeps the end of what it said."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._tail = b""
        self._thread = threading.Thread(target=self._drain, name="last words", daemon=True)
        self._thread.start()

    def text(self) -> str:
        lines = self._tail.decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-_LAST_LINES:])

    def close(self) -> None:
        self._thread.join(1.0)  # longer only where a program has left its group and holds the pipe

    def _drain(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read(_PIPE):
                self._tail = (self._tail + chunk)[-_LAST_BYTES:]


def _kill_group(process: subprocess.Popen[bytes], words: _LastWords, owner: int) -> None:
    if os.getpid() != owner:  # a fork of this process must not take the program away from it
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    words.close()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _widen(descriptor: int) -> None:
    """Make room in a pipe, where the system knows how to and lets its user."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _ROOM)


def _descriptor(pipe: Any) -> int:
    descriptor: int = pipe.fileno()
    os.set_blocking(descriptor, False)
    return descriptor


def how_it_ended(code: int) -> str:
    """Return what an exit code says of an agent that owes an answer; a negative one is a signal."""
    if code >= 0:
        return f"ended with exit code {code} and without a whole answer"
    try:
        return f"crashed with {signal.Signals(-code).name}"
    except ValueError:
        return f"crashed with signal {-code}"
