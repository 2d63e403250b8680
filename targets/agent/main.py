"""The agent as a program on stdin and stdout. It ends when either of them hangs up, whatever it is doing."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from io import FileIO
from typing import BinaryIO

from edgecnn.targets.agent.serving import serve

NO_THREADS = "--no-threads"  # for counting instructions, which would include those of other threads
HANG_UP_GRACE = 0.3  # seconds for an idle agent to end in the ordinary way


def _take_streams() -> tuple[FileIO, BinaryIO]:
    """Reserve stdin and stdout for messages: what a runtime prints goes to stderr, and what it reads is empty."""
    requests, replies = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # so that Python's prints and native code's stay in order
    return requests, replies


def watch_for_hang_up(*descriptors: int) -> None:
    """End the process soon after the other side of a pipe or socket has gone, whatever the process is doing."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLRDHUP)  # for sockets; POLLHUP and POLLERR are always reported
    thread = threading.Thread(target=_end_on_hang_up, args=(poll,), name="hang-up", daemon=True)
    thread.start()


def _end_on_hang_up(poll: select.poll) -> None:
    poll.poll()
    time.sleep(HANG_UP_GRACE)
    os._exit(0)


def main() -> int:
    """Serve stdin and stdout; return the exit code."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # works only when set before onnxruntime is imported
    # OpenVINO reports its import to its makers where this package is, and does without where it cannot import it.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    faulthandler.enable()  # a crash in native code writes Python's stack to stderr
    # So does a request's limit, which then ends the process. It is a signal, since native code cannot hold up a signal,
    # and since a thread for each request would cost more.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    faulthandler.register(signal.SIGALRM, chain=True)
    requests, replies = _take_streams()
    watch_for_hang_up(requests.fileno(), replies.fileno())
    try:
        threads = NO_THREADS not in sys.argv[1:]
        return serve(requests, replies, watchdog=threads, ahead=threads)
    except BrokenPipeError:  # the host has gone
        return 0


if __name__ == "__main__":
    sys.exit(main())
