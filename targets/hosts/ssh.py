"""A device that is reached by OpenSSH's own client, with the user's configuration, keys, ssh agent and jump hosts.

Only artifacts in a cache folder stay on the device: edgecnn's agent travels over the same pipe as its requests.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self
from urllib.parse import unquote, urlsplit

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.agent.single_file import OLDEST_AGENT_PYTHON, agent_source
from edgecnn.targets.hosts import bootstrap
from edgecnn.targets.hosts.channel import Ending, LostError
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection
from edgecnn.targets.hosts.host import DEFAULT_ENVIRONMENT, check_environment
from edgecnn.targets.hosts.process import ENVIRONMENT, Child, how_it_ended
from edgecnn.targets.hosts.ssh_failures import failure
from edgecnn.targets.hosts.ssh_master import MasterError, master_of
from edgecnn.targets.printable import printable

_NOISE = 2**16  # bytes that start-up files may print before the agent starts
_LOGIN = 20.0  # seconds beyond the time for connecting
_SSH_FAILED = 255  # ssh's own exit code
_OPTIONS = {
    "BatchMode": "yes",  # never waits at a prompt that nobody sees
    "StrictHostKeyChecking": "yes",  # unknown and changed keys are refused
    "ServerAliveInterval": "5",  # a line that is cut silently is noticed
    "ServerAliveCountMax": "3",
    "ConnectionAttempts": "1",
    "LogLevel": "ERROR",  # no banners among the agent's last lines, but always errors
    # Settings that a user may have made for terminals, which must not apply here:
    "ClearAllForwardings": "yes",
    "ForwardX11": "no",
    "RequestTTY": "no",
    "RemoteCommand": "none",
}


@dataclass(frozen=True, slots=True)
class SshHost:
    """Starts the agent through ssh. All sessions of one process with a host share one connection.

    Attributes:
        destination: ``user@host``, or a name from ssh's configuration.
        label: What it is called; by default the destination.
        python: The interpreter there: Python 3.9 or newer with numpy and a runtime. ``~/`` is the home folder there.
        pythons: Other interpreters, by the name of the runtime that each is for.
        port: The port; None for the one in ssh's configuration.
        identity: The private key's file; None for the keys of ssh's configuration and agent.
        config: Another configuration file for ssh.
        connect_timeout: Seconds for connecting.
        cache: Whether the device stores artifacts, so that each is sent only once.

    Raises:
        UsageError: ssh would misread the destination, or a shell the interpreter.
    """

    destination: str
    label: str = ""
    python: str = "python3"
    pythons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    port: int | None = None
    identity: str | None = None
    config: str | None = None
    connect_timeout: float = 10
    cache: bool = True

    def __post_init__(self) -> None:
        """Check what is passed to ssh and to the device's shell."""
        _check_destination(self.destination)
        if self.port is not None and not 1 <= self.port <= 65535:
            raise UsageError(f"port {self.port} of {self.destination} is not from 1 to 65535")
        for python in (self.python, *self.pythons.values()):
            if not bootstrap.is_quotable(python):
                raise UsageError(
                    f"{python!r} cannot be the path of an interpreter over ssh",
                    why="shells read quotes, backslashes and exclamation marks in their own ways",
                )

    @classmethod
    def from_url(cls, url: str, *, label: str = "", python: str = "python3", cache: bool = True) -> Self:
        """Return the host for ``ssh://user@host:port``; user and port may be left out.

        Raises:
            UsageError: The URL is not of this form.
        """
        wrong = UsageError(f"{url!r} is no address of an ssh host", hint="as in ssh://pi@raspberrypi.local:22")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise wrong from error
        if parts.scheme != "ssh" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise wrong
        if parts.password is not None:
            raise UsageError("an ssh URL holds no password", hint="ssh-copy-id brings your key to the device")
        host = unquote(parts.netloc.rpartition("@")[2].removesuffix(f":{port}")).strip("[]")  # hostname is lower case
        destination = host if parts.username is None else f"{unquote(parts.username)}@{host}"
        return cls(destination, label, python, port=port, cache=cache)

    @property
    def name(self) -> str:
        """What errors call this host."""
        return self.label or self.destination

    @property
    def kind(self) -> str:
        """``ssh``."""
        return "ssh"

    @property
    def environments(self) -> tuple[str, ...]:
        """The default environment, and one for each of ``pythons``."""
        return (DEFAULT_ENVIRONMENT, *self.pythons)

    def start(self, environment: str = DEFAULT_ENVIRONMENT, *, time_limit: float = DEFAULT_TIME_LIMIT) -> Connection:
        """Start an agent.

        Args:
            environment: One of `environments`.
            time_limit: Seconds for each call that does not state its own, and for the agent's start.

        Raises:
            LostError: The line was cut while the agent started.
            TargetError: The device cannot be reached, does not let us in, or cannot run the agent.
        """
        check_environment(self, environment)
        python = self.pythons.get(environment, self.python)
        try:
            return self._start(python, time_limit)
        except LostError:  # the shared connection was cut, and ssh had not noticed yet
            return self._start(python, time_limit)

    def _start(self, python: str, time_limit: float) -> Connection:
        line = _SshLine(self, python, time_limit)
        command = [*self._ssh(), "-o", f"ControlPath={self._control_path()}", "-o", "ControlMaster=no"]
        return Connection(
            [*command, "--", self.destination, line.command],
            name=self.name,
            python=f"{self.by_hand} {shlex.quote(python)}",  # quoted: the device's shell expands a ~
            environment={"LC_ALL": "C"},
            time_limit=time_limit,
            line=line,
            cache=self.cache,
        )

    @property
    def by_hand(self) -> str:
        """The command with which a person would log in."""
        return f"ssh {self.destination}" if self.port is None else f"ssh -p {self.port} {self.destination}"

    def _ssh(self) -> list[str]:
        command = ["ssh", "-T"]
        for option, value in (("-F", self.config), ("-p", self.port), ("-i", self.identity)):
            command += [] if value is None else [option, str(value)]
        options = {**_OPTIONS, "ConnectTimeout": str(max(1, math.ceil(self.connect_timeout)))}
        if self.identity is not None:
            options["IdentitiesOnly"] = "yes"
        return command + [part for name, value in options.items() for part in ("-o", f"{name}={value}")]

    def _control_path(self) -> str:
        master = master_of(self._ssh(), self.destination)
        try:
            master.connect(self.connect_timeout + _LOGIN)
        except OSError as error:
            raise TargetError(
                "ssh cannot be started here", why=str(error), hint="sudo apt install openssh-client"
            ) from error
        except MasterError as error:
            raise self._not_connected(str(error)) from error
        return str(master.socket)

    def _not_connected(self, words: str) -> TargetError:
        if not words:
            message = f"{self.name}: no login within {self.connect_timeout + _LOGIN:g} s"
            return TargetError(message, where=self.destination, hint=f"try `{self.by_hand}`")
        known = failure(self.name, self.destination, self.port, words)
        words = printable(words)
        return known or TargetError(
            f"{self.name}: ssh cannot connect", where=self.destination, why=words, hint=f"try `{self.by_hand}`"
        )


class _SshLine:
    """What lies between ssh and the agent: a shell, which may print first, and the supervisor."""

    def __init__(self, host: SshHost, python: str, time_limit: float) -> None:
        self._host, self._python, self._time_limit = host, python, time_limit
        self._marker = f"edgecnn{secrets.token_hex(16)}"
        self._source = agent_source().encode()
        self.command = bootstrap.remote_command(python, self._marker, len(self._source), dict(ENVIRONMENT))

    def begin(self, child: Child) -> None:
        """Wait for the interpreter, skip what start-up files print, and send the agent."""
        child.limit(self._time_limit)
        heard = b""
        try:
            while (started := bootstrap.split_start(heard, self._marker)) is None:
                part = child.read(_NOISE)
                heard += part
                if not part:
                    raise self._not_started(child, heard)
                if len(heard) > _NOISE:
                    raise self._error("its start-up files print without end", heard, "see ~/.bashrc there")
            version = started[1]
            if version < OLDEST_AGENT_PYTHON:
                raise self._too_old(version)
            child.write(self._source)
        except TimeoutError as error:
            raise self._error(f"{self._python} did not start within {self._time_limit:g} s", heard) from error
        except BrokenPipeError:
            pass  # the program has ended; the next read reports how

    def ending(self, child: Child) -> Ending:
        """Return how the agent ended, as the supervisor reports it; without a report the line was cut."""
        child.autopsy()
        words, report = bootstrap.split_report(child.last_words(), self._marker)
        if report is None:
            hint = "check the network, and the device's power; then try again"
            return Ending(what=f"the line to {self._host.name} was cut", words=words, lost=True, hint=hint)
        code = -report.signal if report.signal is not None else report.code or 0
        return Ending(what=how_it_ended(code), words=words)

    def _not_started(self, child: Child, heard: bytes) -> TargetError:
        ended = child.autopsy()
        code, words = child.code, child.last_words()
        if code == 127:
            hint = "sudo apt install python3 python3-numpy there, or name another interpreter (python in targets.toml)"
            return self._error(f"there is no {self._python}", heard, hint, words)
        if code == 126:
            return self._error(f"{self._python} cannot be executed", heard, "name another interpreter", words)
        if code == _SSH_FAILED:
            known = failure(self._host.name, self._host.destination, self._host.port, words)
            lost = LostError(
                f"{self._host.name}: the line was cut while the agent started", where=self._place, why=words
            )
            return known or lost
        hint = f"does `{self._host.by_hand} {self._python} --version` work?"
        return self._error(f"the agent did not start: the login {ended}", heard, hint, words)

    def _too_old(self, version: tuple[int, int, int]) -> TargetError:
        oldest = ".".join(map(str, OLDEST_AGENT_PYTHON))
        message = f"{self._python} is Python {'.'.join(map(str, version))}; the agent needs {oldest} or newer"
        return self._error(message, b"", "name a newer interpreter (python in targets.toml)")

    def _error(self, message: str, heard: bytes, hint: str = "", words: str = "") -> TargetError:
        said = "\n".join(part for part in (heard[:2000].decode("utf-8", "replace"), words) if part.strip())
        why = f"it said\n{printable(said).strip()}" if said.strip() else ""
        return TargetError(f"{self._host.name}: {message}", where=self._place, why=why, hint=hint)

    @property
    def _place(self) -> str:
        return self._host.destination


def _check_destination(destination: str) -> None:
    """Refuse a destination that ssh could read as an option, or the shell of a proxy command as more than a name."""
    user, _, host = destination.rpartition("@")
    if not re.fullmatch(r"[^\s\x00-\x1f\x7f'\"`$\\;&|<>(){}*?!#~/,]+", destination) or not host:
        raise UsageError(f"{destination!r} is no destination for ssh", hint="as in pi@raspberrypi.local")
    if user.startswith("-") or host.startswith("-"):
        raise UsageError(f"{destination!r} is no destination for ssh: it would be read as an option")
