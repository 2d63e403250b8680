"""Which hosts there are: this machine, the boards that the package ships, and those of ``targets.toml``.

``targets.toml`` is looked for in the current folder and its parents, up to the one that holds ``.git`` or the root of
the file system (the project's), and in ``$XDG_CONFIG_HOME/edgecnn`` (the user's). The nearest project file is read,
and the user's; where both name a host, the project's counts. A host may have the name of a board that the package
ships, and then takes its place.

It names programs that are run: interpreters, and what ssh connects to. Read that of a project you do not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgecnn.errors import UsageError, near
from edgecnn.targets.config_file import FILE, SSH_KEYS, HostTable, check_host_name, read_tables
from edgecnn.targets.hosts.host import Host
from edgecnn.targets.names import LOCAL
from edgecnn.targets.runtimes import OptionValue
from edgecnn.tomlfile import nearest

SHIPPED = "edgecnn"
"""The origin of what the package ships."""
Options = Mapping[str, Mapping[str, OptionValue]]
"""Options of runtimes by the runtime's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEntry:
    """A host that can be named.

    Attributes:
        name: Its name.
        kind: ``local``, ``ssh`` or ``emulated``.
        origin: ``edgecnn``, or the file that it was read from.
        place: What it is, for people: an interpreter, an ssh destination, a board.
        options: Options that its runtimes have unless the target's name says otherwise.
        board: The board that is emulated.
        make: Gives the host itself; starts nothing.
    """

    name: str
    kind: str
    origin: str
    place: str
    make: Callable[[], Host]
    options: Options = field(default_factory=lambda: MappingProxyType({}))
    board: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The hosts that can be named, and the files that they were read from."""

    hosts: Mapping[str, HostEntry]
    files: tuple[Path, ...] = ()

    def host(self, name: str) -> HostEntry:
        """The host of a name.

        Raises:
            UsageError: There is none; those of a similar name are told.
        """
        if name not in self.hosts:
            raise UsageError(
                f"there is no host {name!r}",
                why=f"it is in none of {', '.join(map(str, self.files))}" if self.files else f"there is no {FILE}",
                hint=f"{near(name, self.hosts)}\nor edgecnn targets add {name} ssh://user@host",
            )
        return self.hosts[name]


def load_config(folder: Path | None = None) -> Config:
    """Read what hosts there are; starts nothing.

    Args:
        folder: Where to look for the project's ``targets.toml``; by default the current folder.

    Raises:
        UsageError: A file cannot be read or says what has no meaning; with the line.
    """
    files = [path for path in (user_file(), project_file(folder)) if path is not None and path.is_file()]
    hosts = {LOCAL: _local(), **_boards()}
    for path in files:  # the project's last, so that it counts
        hosts |= read_hosts(path)
    return Config(hosts=MappingProxyType(hosts), files=tuple(files))


def user_file() -> Path:
    """The user's own ``targets.toml``, whether it exists or not."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "edgecnn" / FILE


def project_file(folder: Path | None = None) -> Path | None:
    """The nearest ``targets.toml`` of the folder and its parents, up to one with ``.git``; None if there is none."""
    return nearest(FILE, folder)


def new_project_file(folder: Path | None = None) -> Path:
    """Where the project's ``targets.toml`` is or belongs: beside ``.git``, else in the current folder."""
    here = (folder or Path.cwd()).resolve()
    root = next((place for place in (here, *here.parents) if (place / ".git").exists()), here)
    return project_file(folder) or root / FILE


def check_addition(path: Path, name: str, *, force: bool = False) -> None:
    """Say before any work is done what `edgecnn.targets.config_file.add_host` would refuse.

    Raises:
        UsageError: The name cannot be used or is taken, or the file has no meaning.
    """
    check_host_name(name)
    if path.is_file() and name in read_hosts(path) and not force:
        raise UsageError(f"{name} is in {path} already", hint="another name, or --force to replace it")


def read_hosts(path: Path) -> dict[str, HostEntry]:
    """The hosts of a ``targets.toml``.

    Raises:
        UsageError: As `load_config`.
    """
    return {name: _entry(name, table, path) for name, table in read_tables(path, _boards()).items()}


def _entry(name: str, host: HostTable, path: Path) -> HostEntry:
    options = MappingProxyType({runtime: MappingProxyType(dict(given)) for runtime, given in host.options.items()})
    common: dict[str, Any] = {"name": name, "origin": str(path), "options": options}
    if host.board is not None:
        return _emulated(host.board, **common)
    pythons = dict(host.pythons)
    if host.ssh is not None:
        given = {key: getattr(host, key) for key in SSH_KEYS if getattr(host, key) is not None}
        if host.python is not None:
            given["python"] = host.python
        return ssh_entry(host.ssh, pythons=pythons, settings=given, **common)
    python = _beside(path, host.python or "")
    pythons = {runtime: _beside(path, other) for runtime, other in pythons.items()}

    def make() -> Host:
        from edgecnn.targets.hosts.local import LocalHost

        return LocalHost(python, label=name, pythons=MappingProxyType(pythons))

    return HostEntry(kind="local", place=python, make=make, **common)


def ssh_entry(
    destination: str,
    *,
    name: str,
    origin: str,
    pythons: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    options: Options = MappingProxyType({}),
) -> HostEntry:
    """A host over ssh: ``user@host``, a name of ssh's own configuration, or an ``ssh://`` URL."""

    def make() -> Host:
        import dataclasses

        from edgecnn.targets.hosts.ssh import SshHost

        given = {"label": name, "pythons": MappingProxyType(dict(pythons or {})), **(settings or {})}
        if destination.startswith("ssh://"):
            return dataclasses.replace(SshHost.from_url(destination), **given)
        return SshHost(destination, **given)

    return HostEntry(name=name, kind="ssh", origin=origin, place=destination, make=make, options=options)


def _emulated(board: str, *, name: str, origin: str, options: Options = MappingProxyType({})) -> HostEntry:
    from edgecnn.targets.boards import load_board

    recipe = load_board(board)

    def make() -> Host:
        from edgecnn.targets.hosts.emulated import EmulatedHost

        return EmulatedHost(recipe)

    return HostEntry(
        name=name, kind="emulated", origin=origin, place=recipe.title, make=make, options=options, board=board
    )


def _local() -> HostEntry:
    def make() -> Host:
        from edgecnn.targets.environments import find_environments
        from edgecnn.targets.hosts.local import LocalHost

        return LocalHost(pythons=MappingProxyType({name: e.python for name, e in find_environments().items()}))

    return HostEntry(name=LOCAL, kind="local", origin=SHIPPED, place="this machine", make=make)


def _boards() -> dict[str, HostEntry]:
    from edgecnn.targets.boards import load_boards

    names = [name for name, board in load_boards().items() if board.kind == "emulated"]
    return {name: _emulated(name, name=name, origin=SHIPPED) for name in names}


def _beside(path: Path, python: str) -> str:
    """A path with folders in it is meant from the file's folder; a bare name is looked up on the path."""
    expanded = Path(python).expanduser()
    return str(path.parent / expanded) if "/" in str(expanded) else python
