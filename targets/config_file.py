"""``targets.toml``: what it can say, where it is wrong, and how a host is added to it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgecnn.errors import UsageError
from edgecnn.targets.names import HOST_NAME, LOCAL, check_option, near
from edgecnn.targets.runtimes import RUNTIMES

FILE = "targets.toml"
MAX_BYTES = 1 << 20


class HostTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table ``[hosts.NAME]``: ``ssh``, ``board``, or alone ``python``, and what belongs to it."""

    ssh: str | None = None
    python: str | None = None
    board: str | None = None
    pythons: dict[str, str] = {}
    port: int | None = None
    identity: str | None = None
    config: str | None = None
    connect_timeout: int | None = None
    cache: bool | None = None
    options: dict[str, dict[str, bool | int | str]] = {}


_KEYS = tuple(f.name for f in msgspec.structs.fields(HostTable))
SSH_KEYS = ("port", "identity", "config", "connect_timeout", "cache")
"""Keys that only a host behind ssh has."""


def read_tables(path: Path, boards: Collection[str]) -> dict[str, HostTable]:
    """The hosts of a ``targets.toml``, checked.

    Args:
        path: The file.
        boards: Names of boards that can be emulated.

    Raises:
        UsageError: The file cannot be read or says what has no meaning; with the line where that can be told.
    """
    text = _read(path)
    lines = _Lines(path, text)
    return {name: _checked(name, table, boards, lines) for name, table in _hosts(path, text, lines).items()}


def _hosts(path: Path, text: str, lines: _Lines) -> dict[str, Any]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{FILE} is no TOML", where=str(path), why=str(error), hint="https://toml.io") from error
    unknown = [key for key in tables if key != "hosts"]
    if unknown:
        raise UsageError(
            f"{FILE} has no {unknown[0]!r}", where=lines.of_table(unknown[0]), hint="[hosts.NAME] for each host"
        )
    found = tables.get("hosts", {})
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise UsageError("hosts are tables", where=lines.of_table("hosts"), hint='[hosts.kitchen]\nssh = "pi@kitchen"')
    return found


def add_host(
    path: Path,
    name: str,
    *,
    ssh: str,
    python: str | None = None,
    port: int | None = None,
    identity: str | None = None,
    force: bool = False,
) -> None:
    """Write a host behind ssh to a ``targets.toml``; what is there stays as it is, comments too.

    Args:
        path: The file; it is made if it does not exist.
        name: What the host is to be called.
        ssh: ``user@host``, or a name in ssh's own configuration.
        python: The interpreter there.
        port: If not ssh's usual one.
        identity: A key's file.
        force: Replace a host of that name.

    Raises:
        UsageError: The name cannot be used or is taken, or the file cannot be read or written.
    """
    check_host_name(name)
    text = _read(path) if path.exists() else ""
    if path.exists() and name in _hosts(path, text, _Lines(path, text)):
        if not force:
            raise UsageError(f"{name} is in {path} already", hint="another name, or --force to replace it")
        text = _without(text, name, path)
    rows: dict[str, str | int | None] = {"ssh": ssh, "port": port, "identity": identity, "python": python}
    block = [f"[hosts.{_key(name)}]", *(f"{key} = {_toml(value)}" for key, value in rows.items() if value is not None)]
    whole = (text.rstrip("\n") + "\n\n" if text.strip() else "") + "\n".join(block) + "\n"
    try:
        tomllib.loads(whole)
    except tomllib.TOMLDecodeError as error:  # hosts = { ... } cannot be added to from below
        raise UsageError(f"{name} cannot be added to the file as it is", where=str(path), hint="edit it") from error
    _write(path, whole)


def check_host_name(name: str) -> str:
    """Refuse what cannot be a host's name.

    Raises:
        UsageError: It has characters that a target's name gives a meaning, or is that of a runtime, or ``local``.
    """
    if name == LOCAL:
        raise UsageError(f"{LOCAL} is this interpreter, and cannot be another host", hint="another name")
    if not HOST_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a host", hint="letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    if name in RUNTIMES:
        raise UsageError(f"{name} is a runtime, and cannot name a host", hint="another name")
    return name


class _Lines:
    """Finds the line of a table or key, for messages. A spelling that it does not know gives the file alone."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, text.splitlines()

    def of_table(self, *names: str) -> str:
        header = re.compile(r"\s*\[\[?\s*" + r"\s*\.\s*".join(_spelled(n) for n in names) + r"\s*[\].]")
        return self._at(header, 0)

    def of_key(self, names: tuple[str, ...], key: str) -> str:
        """The line of a key within a table, or of the table ``names.key``."""
        header = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(_spelled(n) for n in names) + r"\s*\]")
        start = next((i for i, line in enumerate(self._lines) if header.match(line)), None)
        if start is not None:
            own = re.compile(rf"\s*{_spelled(key)}\s*[=.]")
            for number, line in enumerate(self._lines[start + 1 :], start + 2):
                if line.lstrip().startswith("["):
                    break
                if own.match(line):
                    return f"{self._path}, line {number}"
        return self.of_table(*names, key) if self._found(names, key) else self.of_table(*names)

    def _found(self, names: tuple[str, ...], key: str) -> bool:
        return "line" in self.of_table(*names, key).rpartition(",")[2]

    def _at(self, pattern: re.Pattern[str], start: int) -> str:
        for number, line in enumerate(self._lines[start:], start + 1):
            if pattern.match(line):
                return f"{self._path}, line {number}"
        return str(self._path)


def _spelled(name: str) -> str:
    plain = re.escape(name)
    return rf"(?:{plain}|\"{plain}\"|'{plain}')"


def _checked(name: str, table: dict[str, Any], boards: Collection[str], lines: _Lines) -> HostTable:
    place = ("hosts", name)
    try:
        check_host_name(name)
        host = msgspec.convert(table, HostTable, strict=True)
    except UsageError as error:
        error.where = lines.of_table(*place)
        raise
    except msgspec.ValidationError as error:
        raise _invalid(name, table, str(error), lines) from error
    what = [key for key in ("ssh", "board", "python") if getattr(host, key) is not None]
    if what not in (["ssh"], ["ssh", "python"], ["board"], ["python"]):
        raise UsageError(
            f"host {name} says {' and '.join(what) if what else 'nothing about where it is'}",
            where=lines.of_table(*place),
            hint='ssh = "user@host", or board = "pi4", or (without them) python = "/path/to/venv/bin/python"',
        )
    _check_keys(name, host, boards, lines)
    return host


def _invalid(name: str, table: dict[str, Any], message: str, lines: _Lines) -> UsageError:
    place = ("hosts", name)
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        where = lines.of_key(place, unknown[0])
        return UsageError(f"host {name} has no key {unknown[0]!r}", where=where, hint=near(unknown[0], _KEYS))
    at = re.search(r"`\$\.(\w+)", message)
    key = at[1] if at else ""
    said = message.partition(" - at ")[0].replace("`", "")
    words = said.replace("str", "a text").replace("int", "a whole number").replace("bool", "true or false")
    return UsageError(f"host {name}: {key}: {words}", where=lines.of_key(place, key) if key else lines.of_table(*place))


def _check_keys(name: str, host: HostTable, boards: Collection[str], lines: _Lines) -> None:
    place = ("hosts", name)
    for key, message, hint in _problems(host, boards):
        raise UsageError(f"host {name}: {message}", where=lines.of_key(place, key), hint=hint)
    for runtime, options in host.options.items():
        for option, value in options.items():
            try:
                check_option(RUNTIMES[runtime], option, value)
            except UsageError as error:
                error.where = lines.of_key((*place, "options", runtime), option)
                raise


def _problems(host: HostTable, boards: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """For each key that cannot be as it is: the key, what is wrong, and what to try."""
    idle = [key for key in SSH_KEYS if host.ssh is None and getattr(host, key) is not None]
    yield from ((key, f"{key} belongs to ssh", f"leave {key} out") for key in idle)
    if host.board is not None and host.pythons:
        yield "pythons", "an emulated board has its own interpreters", "leave pythons out"
    if host.board is not None and host.board not in boards:
        yield "board", f"there is no board {host.board!r}", near(host.board, boards)
    if host.ssh is not None and (not host.ssh or host.ssh.startswith("-") or re.search(r"\s", host.ssh)):
        yield "ssh", f"{host.ssh!r} is no destination for ssh", 'ssh = "user@host"'
    for key, highest in (("port", 65535), ("connect_timeout", 3600)):
        value = getattr(host, key)
        if value is not None and not 1 <= value <= highest:
            yield key, f"{key} is {value}", f"a number from 1 to {highest}"
    for key in ("pythons", "options"):
        for runtime in getattr(host, key):
            if runtime not in RUNTIMES:
                yield key, f"{key}: there is no runtime {runtime!r}", near(runtime, RUNTIMES)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{FILE} is larger than {MAX_BYTES:,} bytes", where=str(path))
        return data.decode()
    except OSError as error:
        raise UsageError(f"{FILE} cannot be read", where=str(path), why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{FILE} is not UTF-8", where=str(path), why=str(error)) from error


def _write(path: Path, text: str) -> None:
    """Whole or not at all; the file's permissions stay."""
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        descriptor, new = tempfile.mkstemp(prefix=f".{FILE}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(new).chmod(mode)
            Path(new).replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(new).unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error)) from error


def _without(text: str, name: str, path: Path) -> str:
    """The text without the tables of a host."""
    header = re.compile(rf"\s*\[\s*hosts\s*\.\s*{_spelled(name)}\s*[\].]")
    kept, dropping = [], False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            dropping = header.match(line) is not None
        if not dropping:
            kept.append(line)
    shorter = "".join(kept)
    with contextlib.suppress(tomllib.TOMLDecodeError):
        before, after = (tomllib.loads(t).get("hosts", {}) for t in (text, shorter))
        if after == {key: value for key, value in before.items() if key != name}:
            return shorter
    raise UsageError(f"host {name} cannot be replaced by itself", where=str(path), hint="edit the file")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    if any(not char.isprintable() for char in value):
        raise UsageError(f"{value!r} holds a control character")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
