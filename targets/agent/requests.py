"""The requests that the agent serves, one method each.

They are ``hello``, ``probe``, ``open``, ``infer``, ``count``, ``bind``, ``bench``, ``profile`` and ``close``;
``shutdown`` is served by `serve`. Any of them may have the field ``limit``: seconds after which the host has given up.
The agent ends itself soon after that, even where native code holds on to Python.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.targets.agent.artifact_store import DIGEST, ArtifactStore
from edgecnn.targets.agent.call_timing import overhead_ns, time_calls
from edgecnn.targets.agent.machine import probe
from edgecnn.targets.agent.messages import MAX_LIMIT, PROTOCOL, Message
from edgecnn.targets.agent.refusal_error import RefusalError, error_reply
from edgecnn.targets.agent.request_fields import (
    check_inputs,
    check_options,
    ordered_inputs,
    received_artifact,
    required_field,
)
from edgecnn.targets.agent.resource_usage import forget_peak, memory_kb, processor_khz
from edgecnn.targets.agent.runtime_session import Bound, RuntimeSession, infer_in_batches, installed_version
from edgecnn.targets.agent.runtime_table import RUNTIME_TABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Answer = tuple[dict[str, Any], list[NDArray[Any]]]  # fields and arrays of a reply

MAX_REPEAT = 1000  # inferences of one ``count``
MAX_CALLS = 1_000_000  # of one ``bench`` or ``profile``
MARK = -424242  # a descriptor that is never open; ``count`` closes it to mark a point
GRACE = 5.0  # seconds past ``limit``: the host gives up first, and reports to its user


class Agent:
    """Serves requests and holds the sessions that are open.

    Args:
        watchdog: Whether to end the process when a request's ``limit`` is long past.
    """

    def __init__(self, *, watchdog: bool = False) -> None:
        self._sessions: dict[int, RuntimeSession] = {}
        self._bound: dict[int, Bound] = {}
        self._opened = 0
        self._artifacts = ArtifactStore()
        self._watchdog = watchdog

    def answer(self, request: Message) -> Message:
        """Return the reply to `request`; any exception becomes an ``error`` reply."""
        limit: Any = request.fields.get("limit")
        if not self._watchdog or type(limit) not in (int, float) or not 0 < limit <= MAX_LIMIT:
            return self._answer(request)
        signal.setitimer(signal.ITIMER_REAL, limit + GRACE)
        try:
            return self._answer(request)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _answer(self, request: Message) -> Message:
        handlers = {
            "hello": self._hello,
            "probe": self._probe,
            "open": self._open,
            "infer": self._infer,
            "count": self._count,
            "bind": self._bind,
            "bench": self._bench,
            "profile": self._profile,
            "close": self._close,
        }
        try:
            if request.kind not in handlers:
                raise RefusalError("protocol", f"unknown request {request.kind!r}")
            fields, arrays = handlers[request.kind](request)
        except RefusalError as error:
            return error_reply(error.kind, error)
        except Exception as error:  # noqa: BLE001 - runtimes raise anything; the host judges it
            return error_reply("runtime", error)
        return Message(request.kind, fields, tuple(arrays))

    def _hello(self, _: Message) -> Answer:
        here = {name: item for name, item in RUNTIME_TABLE.items() if importlib.util.find_spec(item.module)}
        return {
            "protocol": PROTOCOL,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "machine": platform.machine(),
            "bits": struct.calcsize("P") * 8,  # Raspberry Pi OS often has 32-bit programs under a 64-bit kernel
            "numpy": np.__version__,
            "runtimes": {name: installed_version(item.distribution) for name, item in here.items()},
        }, []

    def _probe(self, _: Message) -> Answer:
        return probe(), []

    def _open(self, request: Message) -> Answer:
        name, given = required_field(request, "runtime", str), required_field(request, "options", dict)
        if name not in RUNTIME_TABLE:
            raise RefusalError("input", f"unknown runtime {name!r}; this agent knows {', '.join(RUNTIME_TABLE)}")
        runtime = RUNTIME_TABLE[name]
        options = check_options(name, runtime.options, given)
        if importlib.util.find_spec(runtime.module) is None:
            raise RefusalError(
                "no-runtime", f"{name} is not installed ({sys.executable} has no module {runtime.module})"
            )
        artifact, not_kept = self._artifact(request)
        importlib.import_module(runtime.module)  # before the clock starts: its time and memory are not the artifact's
        forget_peak()
        resident, started = memory_kb("VmRSS"), time.perf_counter_ns()
        session = runtime.open(runtime.module, artifact, {**options, "profile": request.fields.get("profile") is True})
        load_ns = time.perf_counter_ns() - started
        self._opened += 1
        self._sessions[self._opened] = session
        return {
            "session": self._opened,
            "version": session.version,
            "options": options,
            "inputs": [tensor._asdict() for tensor in session.inputs],
            "outputs": [tensor._asdict() for tensor in session.outputs],
            "arena_bytes": session.arena_bytes,
            "load_ns": load_ns,
            "resident_kb": resident,
            "not_kept": not_kept,
        }, []

    def _artifact(self, request: Message) -> tuple[bytes, str | None]:
        """Return the artifact, which was sent now or before, and why it could not be stored."""
        digest, disk = required_field(request, "sha256", str), request.fields.get("cache") is True
        if not DIGEST.fullmatch(digest):
            raise RefusalError("protocol", "open: sha256 is not 64 hexadecimal digits")
        if request.arrays:
            artifact = received_artifact(request, digest)
            return artifact, self._artifacts.store(digest, artifact, disk=disk)
        found = self._artifacts.find(digest, disk=disk)
        if found is None:
            raise RefusalError("need-artifact", f"open: there is no artifact with SHA-256 {digest} here")
        return found, None

    def _infer(self, request: Message) -> Answer:
        session = self._session(request)
        arrays = ordered_inputs(request, session.inputs)
        check_inputs(session.inputs, arrays)
        if "batch" not in request.fields:
            return {}, session.infer(arrays)
        return {}, infer_in_batches(required_field(request, "batch", int), session, arrays)

    def _count(self, request: Message) -> Answer:
        """Infer ``repeat`` times, with a mark before the first and after each, which a counter of instructions sees."""
        session, repeat = self._session(request), required_field(request, "repeat", int)
        if not 1 <= repeat <= MAX_REPEAT:
            raise RefusalError("input", f"repeat is {repeat}, not from 1 to {MAX_REPEAT}")
        arrays = ordered_inputs(request, session.inputs)
        check_inputs(session.inputs, arrays)
        outputs: list[NDArray[Any]] = []
        _mark()
        for _ in range(repeat):
            outputs = session.infer(arrays)
            _mark()
        return {}, outputs

    def _close(self, request: Message) -> Answer:
        self._session(request)
        del self._sessions[request.fields["session"]]
        self._bound.pop(request.fields["session"], None)
        return {}, []

    def _bind(self, request: Message) -> Answer:
        session = self._session(request)
        arrays = ordered_inputs(request, session.inputs)
        check_inputs(session.inputs, arrays)
        bound = session.bind(arrays)
        self._bound[request.fields["session"]] = bound
        debug = session.debug or hasattr(sys, "gettotalrefcount")
        fields = {"first_ns": bound.first_ns, "overhead_ns": overhead_ns()}
        return {**fields, "debug": debug, "delegates": session.delegates}, []

    def _bench(self, request: Message) -> Answer:
        run, calls = self._bound_call(request)
        seconds = required_field(request, "seconds", float)
        if not 0 <= seconds <= 3600:
            raise RefusalError("input", f"seconds is {seconds}, not from 0 to 3600")
        timed = time_calls(run, calls, seconds)
        fields = {"wall_ns": timed.wall_ns, "cpu_ns": timed.cpu_ns, "khz": processor_khz()}
        return {**fields, "peak_kb": memory_kb("VmHWM")}, [timed.samples]

    def _profile(self, request: Message) -> Answer:
        session = self._session(request)
        run, calls = self._bound_call(request)
        operators, times = session.profile(run, calls)
        return {"operators": operators}, [times]

    def _bound_call(self, request: Message) -> tuple[Callable[[], Any], int]:
        self._session(request)
        calls, session = required_field(request, "calls", int), request.fields["session"]
        if not 1 <= calls <= MAX_CALLS:
            raise RefusalError("input", f"calls is {calls}, not from 1 to {MAX_CALLS}")
        if session not in self._bound:
            raise RefusalError("protocol", f"{request.kind}: session {session} has no inputs bound")
        return self._bound[session].run, calls

    def _session(self, request: Message) -> RuntimeSession:
        number = required_field(request, "session", int)
        if number not in self._sessions:
            raise RefusalError("protocol", f"{request.kind}: there is no session {number}")
        return self._sessions[number]


def _mark() -> None:
    """Close `MARK`: this has no effect, but whoever watches system calls sees it."""
    with contextlib.suppress(OSError):
        os.close(MARK)
