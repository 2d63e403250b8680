"""``targets.toml``: what it can say, where it is wrong, and how a host is added to it."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgecnn.errors import UsageError, near
from edgecnn.files import write_whole
from edgecnn.targets.names import HOST_NAME, LOCAL, check_option
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.tomlfile import Lines, parse, read_table, read_text, toml_key, toml_value

FILE = "targets.toml"


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


SSH_KEYS = ("port", "identity", "config", "connect_timeout", "cache")
"""Keys that only a host over ssh has."""


def read_tables(path: Path, boards: Collection[str]) -> dict[str, HostTable]:
    """The hosts of a ``targets.toml``, checked.

    Args:
        path: The file.
        boards: Names of boards that can be emulated.

    Raises:
        UsageError: The file cannot be read or says what has no meaning; with the line where that can be told.
    """
    text = read_text(path)
    lines = Lines(path, text)
    return {name: _checked(name, table, boards, lines) for name, table in _hosts(path, text, lines).items()}


def _hosts(path: Path, text: str, lines: Lines) -> dict[str, Any]:
    tables = parse(path, text)
    unknown = [key for key in tables if key != "hosts"]
    if unknown:
        raise UsageError(
            f"{FILE} has no {unknown[0]!r}", where=lines.where(unknown[0]), hint="[hosts.NAME] for each host"
        )
    found = tables.get("hosts", {})
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise UsageError("hosts are tables", where=lines.where("hosts"), hint='[hosts.kitchen]\nssh = "pi@kitchen"')
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
    """Write a host over ssh to a ``targets.toml``; what is there stays as it is, comments too.

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
    text = read_text(path) if path.exists() else ""
    if path.exists() and name in _hosts(path, text, Lines(path, text)):
        if not force:
            raise UsageError(f"{name} is in {path} already", hint="another name, or --force to replace it")
        text = _without(text, name, path)
    rows: dict[str, str | int | None] = {"ssh": ssh, "port": port, "identity": identity, "python": python}
    given = [f"{key} = {toml_value(value)}" for key, value in rows.items() if value is not None]
    block = [f"[hosts.{toml_key(name)}]", *given]
    whole = (text.rstrip("\n") + "\n\n" if text.strip() else "") + "\n".join(block) + "\n"
    try:
        tomllib.loads(whole)
    except tomllib.TOMLDecodeError as error:  # hosts = { ... } cannot be added to from below
        raise UsageError(f"{name} cannot be added to the file as it is", where=str(path), hint="edit it") from error
    write_whole(path, whole.encode())


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


def _checked(name: str, table: dict[str, Any], boards: Collection[str], lines: Lines) -> HostTable:
    place = ("hosts", name)
    try:
        check_host_name(name)
    except UsageError as error:
        error.where = lines.where(*place)
        raise
    host = read_table(place, f"host {name}", table, HostTable, lines)
    what = [key for key in ("ssh", "board", "python") if getattr(host, key) is not None]
    if what not in (["ssh"], ["ssh", "python"], ["board"], ["python"]):
        raise UsageError(
            f"host {name} says {' and '.join(what) if what else 'nothing about where it is'}",
            where=lines.where(*place),
            hint='ssh = "user@host", or board = "pi4", or (without them) python = "/path/to/venv/bin/python"',
        )
    _check_keys(name, host, boards, lines)
    return host


def _check_keys(name: str, host: HostTable, boards: Collection[str], lines: Lines) -> None:
    place = ("hosts", name)
    for key, message, hint in _problems(host, boards):
        raise UsageError(f"host {name}: {message}", where=lines.where(*place, key), hint=hint)
    for runtime, options in host.options.items():
        for option, value in options.items():
            try:
                check_option(RUNTIMES[runtime], option, value)
            except UsageError as error:
                error.where = lines.where(*place, "options", runtime, option)
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


def _spelled(name: str) -> str:
    plain = re.escape(name)
    return rf"(?:{plain}|\"{plain}\"|'{plain}')"
