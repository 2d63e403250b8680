"""How a target is written: ``RUNTIME[OPTIONS]@HOST``, with sensible halves left out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from edgecnn.errors import UsageError, near
from edgecnn.targets.runtimes import RUNTIMES, OptionValue, Runtime

LOCAL = "local"
"""The host that is this interpreter."""
EVERY = "*"
SSH = "ssh://"
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What a host can be called in ``targets.toml``."""
FORM = "RUNTIME@HOST, such as litert, onnxruntime@pi4, @pi4 or litert@ssh://pi@raspberrypi.local"

_SHAPE = re.compile(r"(?P<runtime>[^\[\]@]*)(?:\[(?P<options>[^\[\]]*)\])?(?:@(?P<host>.*))?")
_HOST_GLOB = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9_.*?-]*")
_WORDS: Mapping[str, bool] = MappingProxyType({"on": True, "true": True, "off": False, "false": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetName:
    """What was written, in parts.

    Attributes:
        runtime: A runtime's name, or a glob over them; ``*`` where none was given.
        host: A host's name, a glob over them, or an ``ssh://`` URL; ``local`` where none was given.
        options: Names and values, in the order of names.
    """

    runtime: str = EVERY
    host: str = LOCAL
    options: tuple[tuple[str, OptionValue], ...] = ()

    def __str__(self) -> str:
        options = ",".join(f"{name}={format_option(value)}" for name, value in self.options)
        return f"{self.runtime}{f'[{options}]' if options else ''}@{self.host}"

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """The rows that the first half can mean, in the table's order."""
        return tuple(row for name, row in RUNTIMES.items() if fnmatchcase(name, self.runtime))

    @property
    def many_hosts(self) -> bool:
        """Whether the second half is a glob."""
        return is_glob(self.host)


def parse_target(text: str, *, hosts: Collection[str] = ()) -> TargetName:
    """Read ``RUNTIME[OPTIONS]@HOST``. `TargetName`'s text is read back as the same name.

    ``litert`` is ``litert@local``, ``@pi4`` and ``ssh://pi@host`` are every runtime there; ``*`` and ``?`` stand for
    any characters and any one, in both halves.

    Args:
        text: What was written.
        hosts: Names of hosts, for better messages only.

    Raises:
        UsageError: It has another form, or names a runtime or an option that there is not.
    """
    shape = _SHAPE.fullmatch(text.strip()) if not text.strip().startswith(SSH) else _SHAPE.fullmatch("@" + text.strip())
    if shape is None or not any(shape.groups()):
        raise UsageError(f"{text!r} is no target", hint=FORM)
    runtime = shape["runtime"].strip() or EVERY
    host = shape["host"].strip() if shape["host"] is not None else LOCAL
    name = TargetName(runtime=runtime, host=_checked_host(text, host))
    if not name.runtimes:
        raise _unknown_runtime(runtime, hosts)
    return TargetName(runtime=runtime, host=name.host, options=_options(shape["options"], name.runtimes))


def format_option(value: OptionValue) -> str:
    """An option's value as it is written."""
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


def is_glob(text: str) -> bool:
    """Whether a half stands for several names."""
    return not text.startswith(SSH) and ("*" in text or "?" in text)


def _checked_host(text: str, host: str) -> str:
    if host.startswith(SSH) or _HOST_GLOB.fullmatch(host):
        return host
    if "@" in host:
        raise UsageError(f"{text!r} is no target", why=f"{host!r} is no host's name", hint=f"{SSH}{host}")
    raise UsageError(f"{text!r} is no target", why=f"{host!r} is no host's name" if host else "no host", hint=FORM)


def _unknown_runtime(name: str, hosts: Collection[str]) -> UsageError:
    if name in hosts:
        return UsageError(f"{name} is a host, not a runtime", hint=f"@{name} for every runtime there")
    if is_glob(name):
        return UsageError(f"no runtime is called like {name}", hint=f"one of {', '.join(RUNTIMES)}")
    return UsageError(f"there is no runtime {name!r}", hint=near(name, RUNTIMES))


def _options(text: str | None, runtimes: tuple[Runtime, ...]) -> tuple[tuple[str, OptionValue], ...]:
    if text is None:
        return ()
    given: dict[str, OptionValue] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name or not equals:
            raise UsageError(f"{part.strip()!r} is no option", hint="NAME=VALUE, as in litert[threads=2,xnnpack=off]")
        if name in given:
            raise UsageError(f"the option {name} is given twice")
        given[name] = read_option(name, value, runtimes)
    return tuple(sorted(given.items()))


def read_option(name: str, text: str, runtimes: Iterable[Runtime]) -> OptionValue:
    """An option's value as each of these runtimes takes it.

    Raises:
        UsageError: One of them has no such option, or it is of another type.
    """
    value: OptionValue = text
    for runtime in runtimes:
        check_option_name(runtime, name)
        default = runtime.options[name].default
        if isinstance(default, bool):
            value = _WORDS.get(text.lower(), text)
        elif isinstance(default, int):
            value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text
        check_option(runtime, name, value)
    return value


def check_option_name(runtime: Runtime, name: str) -> None:
    """Refuse an option that a runtime has not."""
    if name not in runtime.options:
        raise UsageError(f"{runtime.name} has no option {name!r}", hint=near(name, runtime.options))


def check_option(runtime: Runtime, name: str, value: object) -> None:
    """Refuse an option that a runtime has not, or a value that it cannot have.

    Raises:
        UsageError: With what can be given.
    """
    check_option_name(runtime, name)
    option = runtime.options[name]
    if not option.accepts(value):
        shown = format_option(value) if isinstance(value, bool | int | str) else value
        raise UsageError(f"{runtime.name}: {name}={shown} is not possible", hint=f"{name} is {option.allowed}")
