"""The host's end of the line: requests to an agent, with a time limit on each, and errors that say what happened."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import TargetError
from edgecnn.targets import wheels
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts import replies
from edgecnn.targets.hosts.process import Child
from edgecnn.targets.hosts.session import Session
from edgecnn.targets.runtimes.refusals import operators_named

DEFAULT_TIME_LIMIT = 60.0  # seconds
IN_FLIGHT = 2  # requests of `ask_each` that an agent owes answers to, at most
_GOODBYE = 2.0  # seconds for an agent to end by itself

T = TypeVar("T")


class LostError(TargetError):
    """The line to the agent was cut. Nothing is known to be wrong with the artifact or the runtime: try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a program that owed an answer ended.

    Attributes:
        what: As ``crashed with SIGSEGV``; the message's second half.
        words: The last lines that the agent and its runtime said.
        lost: Whether it was the line that ended, and not the agent.
        why: The cause, where the line tells.
        hint: What to try.
    """

    what: str
    words: str
    lost: bool = False
    why: str = ""
    hint: str = ""


class Line(Protocol):
    """What lies between a started program and the agent, where they are not the same."""

    def begin(self, child: Child) -> None:
        """Bring the agent up at the far end.

        Raises:
            TargetError: It does not come up.
        """

    def ending(self, child: Child) -> Ending:
        """Return how it ended, after its output has."""


class Connection:
    """An agent that has been started, and all that can be asked of it. Not for use by two threads at once.

    Leaving the ``with`` block ends the agent, whatever has happened, as does any failure of the line itself: a passed
    time limit, a crash, a malformed reply, an interrupt. What the agent merely refuses leaves it in use.

    Args:
        command: The program that speaks as an agent, and its arguments: an interpreter, ssh, qemu.
        name: What errors call the host.
        python: The interpreter that pip commands in errors are written for.
        environment: Variables for the program, beside this process's own.
        time_limit: Seconds for each call that does not state its own.
        line: What lies between the program and the agent; None where the program is the agent.
        cache: Whether the far end shall keep artifacts on its disk, so that they are sent once only.

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
        line: Line | None = None,
        cache: bool = False,
    ) -> None:
        self.name = name
        self.time_limit = time_limit
        self._python = python
        self._line = line
        self._cache = cache
        self._sent: set[str] = set()  # digests of the artifacts that this agent has had
        self._failure = ""
        try:
            self._child = Child(command, environment or {})
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise TargetError(
                f"{name}: cannot start {command[0]}", why=why, hint="give the path of a program"
            ) from error
        if line is not None:
            try:
                line.begin(self._child)
            except BaseException:
                self._child.kill()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._child.kill()

    @property
    def alive(self) -> bool:
        """Whether calls can still be made: neither closed nor ended by a failure."""
        return self._child.alive

    @property
    def pid(self) -> int:
        """The process id of the program that was started."""
        return self._child.pid

    def hello(self, *, time_limit: float | None = None) -> replies.AgentInfo:
        """Ask the agent for its versions and runtimes.

        Args:
            time_limit: Seconds; None for the connection's own.

        Raises:
            TargetError: The agent did not start, or not as an agent.
        """
        subject = f"the agent on {self.name}"
        return self.ask(subject, "hello", replies.parse_hello, {}, time_limit=time_limit)

    def probe(self, *, time_limit: float | None = None) -> replies.ProbeInfo:
        """Ask what the machine tells of itself: board, processor, memory, clocks, temperature, throttling.

        Args:
            time_limit: Seconds; None for the connection's own.

        Raises:
            TargetError: The line is lost, or the answer is malformed.
        """
        return self.ask(f"the agent on {self.name}", "probe", replies.parse_probe, {}, time_limit=time_limit)

    def open(
        self,
        runtime: str,
        artifact: bytes,
        label: str,
        *,
        time_limit: float | None = None,
        profile: replies.Option = False,
        **options: replies.Option,
    ) -> Session:
        """Open an artifact on a runtime.

        Args:
            runtime: A name in `RUNTIMES`.
            artifact: The file's bytes.
            label: What errors call the artifact: its file name.
            time_limit: Seconds; None for the connection's own.
            profile: Let the runtime's profiler run, for `Session.profile`; where a runtime has none this does nothing.
            options: As the runtime's row in `RUNTIMES` names them; those left out have the agent's defaults.

        Raises:
            NotOfferedError: The runtime does not offer an operator of the artifact.
            TargetError: The runtime is not installed there, an option is wrong, or the artifact cannot be opened.
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
    ) -> replies.Opened:
        parse = replies.parse_opened
        if self._cache or fields["sha256"] in self._sent:  # it may be there already
            opened = self._try(subject, "open", parse, fields, (), time_limit)
            if not isinstance(opened, replies.Refused):
                return opened
            if opened.kind != "need-artifact":
                raise self._refusal(subject, runtime, opened)
        payload = np.frombuffer(artifact, np.uint8)
        return self.ask(subject, "open", parse, fields, [payload], time_limit=time_limit)

    def close(self) -> None:
        """End the agent and wait for its end. Doing it twice does no harm."""
        self._child.close(_GOODBYE)

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
            parse: A function of `edgecnn.targets.hosts.replies`; its ProtocolError ends the agent.
            fields: JSON values by name.
            arrays: What goes with them.
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
        """As `ask` for one request after the other, each sent while the agent is still busy with the one before.

        A generator that is given up before its end ends the agent: an answer would still be on its way.

        Args:
            subject: As `ask`.
            kind: As `ask`.
            parse: As `ask`.
            requests: Fields and arrays of each.
            time_limit: As `ask`.

        Raises:
            TargetError: As `ask`; the agent has been ended then.
        """
        seconds = self.time_limit if time_limit is None else time_limit
        waiting = 0
        try:
            for fields, arrays in requests:
                self._send_request(subject, kind, fields, arrays, seconds)
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
                self._failure = self._failure or f"{subject}: given up"
                self._child.kill()

    def _answer(self, subject: str, kind: str, parse: Callable[[messages.Message], T], seconds: float) -> T:
        answer = self._parsed(subject, kind, parse, self._receive(subject, seconds))
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
        self._send_request(subject, kind, fields, arrays, seconds)
        return self._parsed(subject, kind, parse, self._receive(subject, seconds, anew=False))

    def _parsed(
        self, subject: str, kind: str, parse: Callable[[messages.Message], T], reply: messages.Message
    ) -> T | replies.Refused:
        try:
            return parse(reply) if reply.kind == kind else replies.parse_refused(reply)
        except messages.ProtocolError as error:
            self._malformed(subject, error)

    def _send_request(
        self, subject: str, kind: str, fields: Mapping[str, Any], arrays: Sequence[NDArray[Any]], seconds: float
    ) -> None:
        if not self.alive:
            raise TargetError(f"{subject}: the connection to {self.name} is closed", why=self._failure)
        try:
            request = messages.encode_message(kind, {**fields, "limit": min(seconds, messages.MAX_LIMIT)}, arrays)
        except messages.ProtocolError as error:
            raise TargetError(f"{subject}: the request cannot be sent", why=str(error)) from error
        self._child.limit(seconds)
        self._on_the_line(subject, lambda: self._send(request), seconds)

    def _receive(self, subject: str, seconds: float, *, anew: bool = True) -> messages.Message:
        """The next message within so many seconds: from now on, or from when the request was sent."""
        if anew:
            self._child.limit(seconds)
        reply = self._on_the_line(subject, lambda: messages.read_message(self._child), seconds)
        if reply is None:
            self._ended(subject, "")
        return reply

    def _on_the_line(self, subject: str, what: Callable[[], T], seconds: float) -> T:
        """Send or receive; what goes wrong on the way ends the agent, and is told."""
        try:
            return what()
        except TimeoutError:
            self._child.kill()
            self._fail(
                f"{subject}: no answer within {seconds:g} s", hint="a longer time limit, or fewer inputs at once"
            )
        except messages.CutShortError as error:
            self._ended(subject, str(error))
        except messages.VersionError as error:
            self._other_version(subject, error)
        except messages.ProtocolError as error:
            self._malformed(subject, error)
        except BaseException:  # an interrupt in the middle of a message: the line cannot be used again
            self._child.kill()
            raise

    def _send(self, request: Sequence[Any]) -> None:
        # A broken pipe says that the agent has stopped reading; what it said about that, or its end, is read next.
        with contextlib.suppress(BrokenPipeError):
            for part in request:
                self._child.write(part)

    def _refusal(self, subject: str, runtime: str, refused: replies.Refused) -> TargetError:
        hint = self._how_to_install(runtime) if refused.kind == "no-runtime" else ""
        detail = f"{refused.traceback}\n{replies.printable(self._words())}".strip()
        return TargetError(f"{subject}: {refused.message}", where=self.name, hint=hint, detail=detail)

    def _how_to_install(self, runtime: str) -> str:
        try:
            here = self.hello()
        except TargetError:
            return ""
        return wheels.advice(runtime, here.wheel_machine, here.python, pip=f"{self._python} -m pip")

    def _other_version(self, subject: str, error: messages.VersionError) -> NoReturn:
        self._child.kill()
        age, cure = (
            ("newer", "update edgecnn here") if error.theirs > messages.PROTOCOL else ("older", "update it there")
        )
        message = f"{subject}: the agent on {self.name} speaks protocol {error.theirs}"
        self._fail(message, why=f"it is {age} than this edgecnn, which speaks protocol {messages.PROTOCOL}", hint=cure)

    def _malformed(self, subject: str, error: messages.ProtocolError) -> NoReturn:
        follows = self._child.read_now()[:200] if self.alive else b""
        self._child.kill()
        why = f"{error}; what follows is {follows!r}" if follows else str(error)
        self._fail(f"{subject}: the answer is malformed", why=replies.printable(why))

    def _ended(self, subject: str, why: str) -> NoReturn:
        end = self._line.ending(self._child) if self._line else Ending(what=self._child.autopsy(), words=self._words())
        message, hint = f"{subject}: {end.what}", end.hint
        if "No module named 'numpy'" in end.words:
            message, hint = f"{subject}: numpy is not installed there", f"{self._python} -m pip install numpy"
        why = "\n".join(part for part in (why, end.why) if part)
        self._fail(message, why=why, hint=hint, words=end.words, kind=LostError if end.lost else TargetError)

    def _fail(
        self, message: str, *, why: str = "", hint: str = "", words: str | None = None, kind: type = TargetError
    ) -> NoReturn:
        """Raise for a line that is lost; the program has been killed, so its last words are complete."""
        self._failure = message
        words = replies.printable(self._words() if words is None else words).strip()
        last = f"its last words were\n{words}" if words else ""
        why = "\n".join(part for part in (why, last) if part)
        raise kind(message, where=self.name, why=why, hint=hint) from None

    def _words(self) -> str:
        return self._child.last_words()
