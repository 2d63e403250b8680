"""Messages to and from an agent, with a time limit on each, and errors that say how the agent or the line failed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

from numpy.typing import NDArray

from edgecnn.errors import TargetError
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts.process import Child
from edgecnn.targets.printable import printable

T = TypeVar("T")


class LostError(TargetError):
    """The line to the agent was cut. Nothing is known to be wrong with the artifact or the runtime: try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a program ended that owed an answer.

    Attributes:
        what: The second half of an error's message: ``crashed with SIGSEGV``.
        words: The last lines that the agent and its runtime wrote.
        lost: Whether the line ended, and not the agent.
        why: The cause, where it is known.
        hint: What to try.
    """

    what: str
    words: str
    lost: bool = False
    why: str = ""
    hint: str = ""


class AgentLine(Protocol):
    """What lies between the started program and the agent."""

    def begin(self, child: Child) -> None:
        """Start the agent at the far end.

        Raises:
            TargetError: The agent does not start.
        """

    def ending(self, child: Child) -> Ending:
        """Return how a program ended whose output has ended."""


class Channel:
    """A started program that speaks as an agent. A failure of the program or the line kills the program.

    Args:
        command: The program and its arguments.
        environment: Variables for the program in addition to this process's own.
        name: What errors call the host.
        python: The interpreter that pip commands in errors are written for.
        line: What lies between the program and the agent; None if the program is the agent.

    Raises:
        TargetError: The program, or the agent at the far end, cannot be started.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, name: str, python: str, line: AgentLine | None
    ) -> None:
        self._name, self._python, self._line = name, python, line
        self._failure = ""
        try:
            self._child = Child(command, environment)
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

    @property
    def child(self) -> Child:
        """The started program."""
        return self._child

    def send(
        self, subject: str, kind: str, fields: Mapping[str, Any], arrays: Sequence[NDArray[Any]], seconds: float
    ) -> None:
        """Send a request.

        Args:
            subject: What the message of every error begins with.
            kind: The request.
            fields: JSON values by name; the field ``limit`` is added.
            arrays: Arrays that go with them.
            seconds: The time limit for sending and, unless `receive` sets another, for the answer.

        Raises:
            TargetError: The program was killed before, the request cannot be sent, or sending failed.
        """
        if not self._child.alive:
            raise TargetError(f"{subject}: the connection to {self._name} is closed", why=self._failure)
        try:
            request = messages.encode_message(kind, {**fields, "limit": min(seconds, messages.MAX_LIMIT)}, arrays)
        except messages.ProtocolError as error:
            raise TargetError(f"{subject}: the request cannot be sent", why=str(error)) from error
        self._child.limit(seconds)
        self._guarded(subject, lambda: self._write(request), seconds)

    def receive(self, subject: str, seconds: float, *, restart: bool) -> messages.Message:
        """Receive a reply.

        Args:
            subject: What the message of every error begins with.
            seconds: The time limit.
            restart: Whether the time limit starts now; otherwise it started when the request was sent.

        Raises:
            TargetError: No whole and valid message of this protocol's version came in time.
        """
        if restart:
            self._child.limit(seconds)
        reply = self._guarded(subject, lambda: messages.read_message(self._child), seconds)
        if reply is None:
            self._ended(subject, "")
        return reply

    def give_up(self, subject: str) -> None:
        """Kill a program that owes answers which nobody waits for."""
        self._failure = self._failure or f"{subject}: given up"
        self._child.kill()

    def malformed(self, subject: str, error: messages.ProtocolError) -> NoReturn:
        """Kill a program whose answer breaks the protocol.

        Raises:
            TargetError: Always.
        """
        follows = self._child.read_now()[:200] if self._child.alive else b""
        self._child.kill()
        why = f"{error}; what follows is {follows!r}" if follows else str(error)
        self._fail(f"{subject}: the answer is malformed", why=printable(why))

    def last_words(self) -> str:
        """Return the last lines that the program wrote to stderr."""
        return self._child.last_words()

    def _guarded(self, subject: str, action: Callable[[], T], seconds: float) -> T:
        """Send or receive; turn what goes wrong into an error, after killing the program."""
        try:
            return action()
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
            self.malformed(subject, error)
        except BaseException:  # an interrupt in the middle of a message: the line cannot be used again
            self._child.kill()
            raise

    def _write(self, request: Sequence[Any]) -> None:
        # A broken pipe says that the agent has stopped reading. The next read gets its reason, or its end.
        with contextlib.suppress(BrokenPipeError):
            for part in request:
                self._child.write(part)

    def _other_version(self, subject: str, error: messages.VersionError) -> NoReturn:
        self._child.kill()
        own = messages.PROTOCOL
        age, hint = ("newer", "update edgecnn here") if error.theirs > own else ("older", "update it there")
        message = f"{subject}: the agent on {self._name} speaks protocol {error.theirs}"
        self._fail(message, why=f"it is {age} than this edgecnn, which speaks protocol {own}", hint=hint)

    def _ended(self, subject: str, why: str) -> NoReturn:
        child = self._child
        end = self._line.ending(child) if self._line else Ending(what=child.autopsy(), words=child.last_words())
        message, hint = f"{subject}: {end.what}", end.hint
        if "No module named 'numpy'" in end.words:
            message, hint = f"{subject}: numpy is not installed there", f"{self._python} -m pip install numpy"
        why = "\n".join(part for part in (why, end.why) if part)
        self._fail(message, why=why, hint=hint, words=end.words, kind=LostError if end.lost else TargetError)

    def _fail(
        self, message: str, *, why: str = "", hint: str = "", words: str | None = None, kind: type = TargetError
    ) -> NoReturn:
        """Raise for a program that has been killed, so that its last words are complete."""
        self._failure = message
        words = printable(self.last_words() if words is None else words).strip()
        last = f"its last words were\n{words}" if words else ""
        why = "\n".join(part for part in (why, last) if part)
        raise kind(message, where=self._name, why=why, hint=hint) from None
