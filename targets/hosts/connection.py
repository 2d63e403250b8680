"""Requests to an agent, and what it answers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import TargetError
from edgecnn.targets import wheels
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts import machine_info, replies
from edgecnn.targets.hosts.channel import AgentLine, Channel
from edgecnn.targets.hosts.session import Session
from edgecnn.targets.printable import printable
from edgecnn.targets.runtimes import OptionValue
from edgecnn.targets.runtimes.refusals import operators_named

DEFAULT_TIME_LIMIT = 60.0  # seconds
IN_FLIGHT = 2  # requests of `ask_each` that are unanswered, at most
_GOODBYE = 2.0  # seconds for an agent to end by itself

T = TypeVar("T")


class Connection:
    """An agent that has been started, and the requests it serves. Only one thread may use it at a time.

    The agent ends when the ``with`` block is left, and when the line fails: a time limit passes, the agent crashes, a
    reply is malformed, or the user interrupts. A request that the agent refuses does not end it.

    Args:
        command: The program that speaks as an agent, and its arguments: an interpreter, ssh, qemu.
        name: What errors call the host.
        python: The interpreter that pip commands in errors are written for.
        environment: Variables for the program in addition to this process's own.
        time_limit: Seconds for each call that does not state its own.
        line: What lies between the program and the agent; None if the program is the agent.
        cache: Whether the agent stores artifacts on its disk, so that each is sent only once.

    Raises:
        TargetError: The program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        python: str = "python3",
        environment: Mapping[str, str] | None = None,
        time_limit: float = DEFAULT_TIME_LIMIT,
        line: AgentLine | None = None,
        cache: bool = False,
    ) -> None:
        self.name = name
        self.time_limit = time_limit
        self._python = python
        self._cache = cache
        self._sent: set[str] = set()  # digests of the artifacts that this agent has had
        self._channel = Channel(command, environment or {}, name=name, python=python, line=line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._channel.child.kill()

    @property
    def alive(self) -> bool:
        """Whether calls can still be made: neither closed nor ended by a failure."""
        return self._channel.child.alive

    @property
    def pid(self) -> int:
        """The process id of the program that was started."""
        return self._channel.child.pid

    def hello(self, *, time_limit: float | None = None) -> machine_info.AgentInfo:
        """Ask the agent for its versions and runtimes.

        Args:
            time_limit: Seconds; None for the connection's own.

        Raises:
            TargetError: What was started does not answer as an agent.
        """
        subject = f"the agent on {self.name}"
        return self.ask(subject, "hello", machine_info.parse_hello, {}, time_limit=time_limit)

    def probe(self, *, time_limit: float | None = None) -> machine_info.ProbeInfo:
        """Ask for a description of the machine: board, processor, memory, clocks, temperature, throttling.

        Args:
            time_limit: Seconds; None for the connection's own.

        Raises:
            TargetError: The line is lost, or the answer is malformed.
        """
        return self.ask(f"the agent on {self.name}", "probe", machine_info.parse_probe, {}, time_limit=time_limit)

    def open(
        self,
        runtime: str,
        artifact: bytes,
        label: str,
        *,
        time_limit: float | None = None,
        profile: OptionValue = False,
        **options: OptionValue,
    ) -> Session:
        """Open an artifact on a runtime.

        Args:
            runtime: A name in `RUNTIMES`.
            artifact: The file's bytes.
            label: What errors call the artifact: its file name.
            time_limit: Seconds; None for the connection's own.
            profile: Whether the runtime's profiler runs, for `Session.profile`; no effect if the runtime has none.
            options: Options of the runtime's row in `RUNTIMES`; the agent has defaults for the others.

        Raises:
            NotOfferedError: The runtime does not offer an operator of the artifact.
            TargetError: The runtime is not installed on the host, an option is wrong, or the artifact cannot be opened.
        """
        subject, digest = f"{label} on {runtime}", hashlib.sha256(artifact).hexdigest()
        fields: dict[str, Any] = {"runtime": runtime, "sha256": digest, "options": options, "cache": self._cache}
        fields |= {"profile": True} if profile else {}
        named = functools.partial(operators_named, artifact, subject, self.name, runtime, options)
        with named():
            opened = self._open(subject, runtime, fields, artifact, time_limit)
        self._sent.add(digest)
        return Session(self, subject, opened, named)

    def _open(
        self, subject: str, runtime: str, fields: Mapping[str, Any], artifact: bytes, time_limit: float | None
    ) -> replies.OpenReply:
        parse = replies.parse_opened
        if self._cache or fields["sha256"] in self._sent:  # the agent may have it already
            opened = self._try(subject, "open", parse, fields, (), time_limit)
            if not isinstance(opened, replies.Refused):
                return opened
            if opened.kind != "need-artifact":
                raise self._refusal(subject, runtime, opened)
        payload = np.frombuffer(artifact, np.uint8)
        return self.ask(subject, "open", parse, fields, [payload], time_limit=time_limit)

    def close(self) -> None:
        """End the agent and wait for its end. Doing it twice does no harm."""
        self._channel.child.close(_GOODBYE)

    def ask(
        self,
        subject: str,
        kind: str,
        parse: Callable[[messages.Message], T],
        fields: Mapping[str, Any],
        arrays: Sequence[NDArray[Any]] = (),
        *,
        time_limit: float | None = None,
    ) -> T:
        """Send one request and return its reply as `parse` reads it.

        Args:
            subject: What the message of every error begins with.
            kind: The request.
            parse: A function that reads the reply; its ProtocolError ends the agent.
            fields: JSON values by name.
            arrays: Arrays that go with them.
            time_limit: Seconds; None for the connection's own.

        Raises:
            TargetError: The agent refused, or the line is lost.
        """
        answer = self._try(subject, kind, parse, fields, arrays, time_limit)
        if isinstance(answer, replies.Refused):
            raise self._refusal(subject, str(fields.get("runtime", "")), answer)
        return answer

    def ask_each(
        self,
        subject: str,
        kind: str,
        parse: Callable[[messages.Message], T],
        requests: Iterable[tuple[Mapping[str, Any], Sequence[NDArray[Any]]]],
        *,
        time_limit: float | None = None,
    ) -> Iterator[T]:
        """Send requests, each while the agent is still busy with the previous one, and yield the replies in order.

        Closing the generator before its end kills the agent, since an answer would still be on its way.

        Args:
            subject: As in `ask`.
            kind: As in `ask`.
            parse: As in `ask`.
            requests: Fields and arrays of each request.
            time_limit: As in `ask`, for each request.

        Raises:
            TargetError: As in `ask`; the agent has ended then.
        """
        seconds = self.time_limit if time_limit is None else time_limit
        waiting = 0
        try:
            for fields, arrays in requests:
                self._channel.send(subject, kind, fields, arrays, seconds)
                waiting += 1
                if waiting == IN_FLIGHT:
                    answer = self._answer(subject, kind, parse, seconds)
                    waiting -= 1
                    yield answer
            while waiting:
                answer = self._answer(subject, kind, parse, seconds)
                waiting -= 1
                yield answer
        finally:
            if waiting:
                self._channel.give_up(subject)

    def _answer(self, subject: str, kind: str, parse: Callable[[messages.Message], T], seconds: float) -> T:
        answer = self._parsed(subject, kind, parse, self._channel.receive(subject, seconds, restart=True))
        if isinstance(answer, replies.Refused):
            raise self._refusal(subject, "", answer)
        return answer

    def _try(
        self,
        subject: str,
        kind: str,
        parse: Callable[[messages.Message], T],
        fields: Mapping[str, Any],
        arrays: Sequence[NDArray[Any]],
        time_limit: float | None,
    ) -> T | replies.Refused:
        seconds = self.time_limit if time_limit is None else time_limit
        self._channel.send(subject, kind, fields, arrays, seconds)
        return self._parsed(subject, kind, parse, self._channel.receive(subject, seconds, restart=False))

    def _parsed(
        self, subject: str, kind: str, parse: Callable[[messages.Message], T], reply: messages.Message
    ) -> T | replies.Refused:
        try:
            return parse(reply) if reply.kind == kind else replies.parse_refused(reply)
        except messages.ProtocolError as error:
            self._channel.malformed(subject, error)

    def _refusal(self, subject: str, runtime: str, refused: replies.Refused) -> TargetError:
        hint = self._how_to_install(runtime) if refused.kind == "no-runtime" else ""
        detail = f"{refused.traceback}\n{printable(self._channel.last_words())}".strip()
        return TargetError(f"{subject}: {refused.message}", where=self.name, hint=hint, detail=detail)

    def _how_to_install(self, runtime: str) -> str:
        try:
            here = self.hello()
        except TargetError:
            return ""
        return wheels.advice(runtime, here.wheel_machine, here.python, pip=f"{self._python} -m pip")
