"""Where an artifact runs: a runtime on a host, found by the names that the user writes."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from edgecnn.errors import EdgecnnError, TargetError, UsageError, near
from edgecnn.targets.agent.messages import PROTOCOL
from edgecnn.targets.config import Config, HostEntry, load_config, ssh_entry
from edgecnn.targets.hosts.host import DEFAULT_ENVIRONMENT, Host, Survey, survey
from edgecnn.targets.hosts.host import FoundRuntimes as Runs
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.hosts.machine_info import AgentInfo
from edgecnn.targets.hosts.reconnect import ReconnectingSession, open_reconnecting
from edgecnn.targets.names import LOCAL, SSH, TargetName, is_glob, parse_target
from edgecnn.targets.parallel import at_once
from edgecnn.targets.runtimes import RUNTIMES, OptionValue

TIME_LIMIT = 60.0
"""Seconds for one answer, unless the user says otherwise."""
EMULATED_TIME_LIMIT = 600.0
"""The same on an emulated board, which is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A runtime on a host.

    Attributes:
        runtime: Its name.
        host: Where it is.
        environment: The host's environment that has it.
        version: The runtime's version, if its package states one.
        options: What is to be other than the runtime's defaults.
        name: The whole, spelled so that `edgecnn.targets.names.parse_target` reads it back.
        time_limit: Seconds for one answer.
        asked_for: Whether the runtime was named, not merely one of those that are there.
    """

    runtime: str
    host: Host
    environment: str = ""
    version: str | None = None
    options: Mapping[str, OptionValue] = field(default_factory=lambda: MappingProxyType({}))
    name: str
    time_limit: float = TIME_LIMIT
    asked_for: bool = True

    def open(self, artifact: bytes, label: str) -> AbstractContextManager[ReconnectingSession]:
        """Open an artifact there, in a process of its own: a runtime that crashes takes nothing with it.

        On one thread unless the options say otherwise: with several, a runtime may add in another order from run to
        run.

        Args:
            artifact: The file's bytes.
            label: What errors call it.

        Raises:
            TargetError: As `open_reconnecting`.
        """
        options = {"threads": 1, **self.options}
        return open_reconnecting(
            self.host, self.environment, self.runtime, artifact, label, time_limit=self.time_limit, **options
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFailure:
    """A target, or a host with all of its targets, that could not be asked."""

    target: str
    error: EdgecnnError


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of the names.

    Attributes:
        targets: In the order of the names, hosts and runtimes; each once.
        failures: What was named and cannot be reached, or lacks the runtime.
        notes: What globs passed over, and why.
    """

    targets: tuple[Target, ...]
    failures: tuple[TargetFailure, ...] = ()
    notes: tuple[str, ...] = ()


def resolve_targets(
    specs: Sequence[str], *, config: Config | None = None, time_limit: float | None = None
) -> list[Target]:
    """The targets that names stand for.

    Args:
        specs: As the user writes them.
        config: The hosts there are; by default `load_config`'s.
        time_limit: Seconds for one answer; None for 60, on emulated boards 600.

    Raises:
        UsageError: A name has another form, or there is no such runtime, option or host.
        TargetError: A host cannot be reached, or lacks the runtime.
    """
    found = find_targets(specs, config=config, time_limit=time_limit)
    for failure in found.failures:
        raise failure.error
    return list(found.targets)


def find_targets(specs: Sequence[str], *, config: Config | None = None, time_limit: float | None = None) -> Found:
    """As `resolve_targets`, but a host that fails does not hide the others. Each host is asked once, all at once.

    A glob over hosts takes the boards that are built and passes over runtimes that a host lacks, and the notes say so.

    Raises:
        UsageError: A name has another form, or there is no such runtime, option or host, or a glob fits nothing.
    """
    config = config or load_config()
    search = _Search(config, time_limit)
    names = [(spec, parse_target(spec, hosts=config.hosts)) for spec in dict.fromkeys(specs)]
    wanted = [(name, search.entries(spec, name)) for spec, name in names]
    search.ask([entry for _, entries in wanted for entry in entries])
    for name, entries in wanted:
        search.take(name, entries)
    return Found(
        targets=tuple(search.targets.values()),
        failures=tuple(search.failures.values()),
        notes=tuple(dict.fromkeys(search.notes)),
    )


def installed_targets(*, time_limit: float | None = None) -> list[Target]:
    """The runtimes beside edgecnn itself, in this interpreter's packages.

    Raises:
        TargetError: This interpreter cannot be started.
    """
    host = LocalHost()
    found = survey(host, time_limit=time_limit_of("local", time_limit))
    for problem in found.problems.values():
        raise problem
    return [
        Target(
            runtime=name,
            host=host,
            version=found.runtimes[name].version,
            name=str(TargetName(runtime=name)),
            time_limit=time_limit_of("local", time_limit),
            asked_for=False,
        )
        for name in RUNTIMES
        if name in found.runtimes
    ]


def time_limit_of(kind: str, given: float | None) -> float:
    """Seconds for one answer of a host of this kind."""
    return given if given is not None else EMULATED_TIME_LIMIT if kind == "emulated" else TIME_LIMIT


def unbuilt(entry: HostEntry) -> str:
    """Why an emulated board cannot be started yet, in one line; empty where it can, and for other hosts."""
    if entry.kind != "emulated":
        return ""
    from edgecnn.targets.boards import load_board
    from edgecnn.targets.emulation import is_built

    return "" if is_built(load_board(entry.board)) else f"not built: edgecnn targets emulate {entry.board}"


class _Search:
    """Names to targets, in three steps: `entries`, `ask`, `take`."""

    def __init__(self, config: Config, time_limit: float | None) -> None:
        self._config, self._time_limit = config, time_limit
        self._surveys: dict[str, Survey] = {}
        self.targets: dict[str, Target] = {}
        self.failures: dict[str, TargetFailure] = {}
        self.notes: list[str] = []

    def entries(self, spec: str, name: TargetName) -> list[HostEntry]:
        """The hosts that a name means and that can be started."""
        if name.host.startswith(SSH):
            return [ssh_entry(name.host, name=name.host, origin="the command line")]
        if not name.many_hosts:
            entry = self._host(name)
            if why := unbuilt(entry):
                hint = why.partition(": ")[2]
                self._fail(str(name), TargetError(f"{name.host} is not built yet", where=spec, hint=hint))
                return []
            return [entry]
        return self._matching(spec, name)

    def _host(self, name: TargetName) -> HostEntry:
        if name.host in RUNTIMES and name.host not in self._config.hosts:
            raise UsageError(f"{name.host} is a runtime, not a host", hint=f"{name.host}@{LOCAL}")
        return self._config.host(name.host)

    def _matching(self, spec: str, name: TargetName) -> list[HostEntry]:
        fitting = [entry for host, entry in self._config.hosts.items() if fnmatchcase(host, name.host)]
        if not fitting:
            raise UsageError(
                f"no host is called like {name.host}", where=spec, hint=near(name.host, self._config.hosts)
            )
        waiting = [entry for entry in fitting if unbuilt(entry)]
        names = " ".join(entry.board for entry in waiting)
        if len(waiting) == len(fitting):
            hint = f"edgecnn targets emulate {names}"
            raise UsageError(f"none of the boards that {name.host} fits is built", where=spec, hint=hint)
        if waiting:
            self.notes.append(f"{spec}: without boards that are not built (edgecnn targets emulate {names})")
        return [entry for entry in fitting if entry not in waiting]

    def ask(self, entries: Sequence[HostEntry]) -> None:
        """Survey each host once, all of them at once."""
        unique = list({entry.name: entry for entry in entries}.values())

        def one(entry: HostEntry) -> Survey:
            return recipe_of(entry) if entry.kind == "emulated" else survey_of(entry, self._time_limit)

        self._surveys = {e.name: s for e, s in zip(unique, at_once(one, unique), strict=True)}

    def take(self, name: TargetName, entries: Sequence[HostEntry]) -> None:
        """Add the targets that a name means on these hosts."""
        answered = [self._take(name, entry, self._surveys[entry.name]) for entry in entries]
        if entries and name.many_hosts and not any(answered):
            hosts = ", ".join(entry.name for entry in entries)
            self._fail(str(name), TargetError(f"none of {hosts} has {name.runtime}", hint="edgecnn targets"))

    def _take(self, name: TargetName, entry: HostEntry, found: Survey) -> bool:
        """Add a host's targets; whether there are any, or something was said."""
        if not found.agents:
            self._fail(entry.name, next(iter(found.problems.values())))
            return True
        here = [row.name for row in name.runtimes if row.name in found.runtimes]
        for environment, problem in found.problems.items():
            if fnmatchcase(environment, name.runtime):
                self._fail(f"{environment}@{entry.name}", problem)
        for runtime in here:
            target = self._target(name, entry, found, runtime)
            if target.asked_for or target.name not in self.targets:
                self.targets[target.name] = target
        asked_for = [] if is_glob(name.runtime) else [r for r in [name.runtime] if r not in found.runtimes]
        for runtime in asked_for:
            if name.many_hosts:
                self.notes.append(f"{name}: {entry.name} has no {runtime}")
            elif runtime not in found.problems:
                error = found.problems.get(DEFAULT_ENVIRONMENT) or lacking(runtime, entry, found)
                self._fail(f"{runtime}@{entry.name}", error)
        if not here and not asked_for and not name.many_hosts:
            self._fail(f"{name.runtime}@{entry.name}", _empty(name, entry, found))
        return bool(here)

    def _target(self, name: TargetName, entry: HostEntry, found: Survey, runtime: str) -> Target:
        options = {**entry.options.get(runtime, {}), **dict(name.options)}
        whole = TargetName(runtime=runtime, host=entry.name, options=tuple(sorted(options.items())))
        return Target(
            runtime=runtime,
            host=entry.make(),
            environment=found.runtimes[runtime].environment,
            version=found.runtimes[runtime].version,
            options=MappingProxyType(options),
            name=str(whole),
            time_limit=time_limit_of(entry.kind, self._time_limit),
            asked_for=not is_glob(name.runtime),
        )

    def _fail(self, target: str, error: EdgecnnError) -> None:
        self.failures.setdefault(target, TargetFailure(target=target, error=error))


def survey_of(entry: HostEntry, time_limit: float | None = None) -> Survey:
    """Survey a host; what keeps it from being made is among the problems."""
    try:
        host = entry.make()
    except EdgecnnError as error:
        problem = TargetError(error.message, where=error.where, why=error.why, hint=error.hint, detail=error.detail)
        return Survey(agents=MappingProxyType({}), runtimes=MappingProxyType({}), problems={"": problem})
    return survey(host, time_limit=time_limit_of(entry.kind, time_limit))


def recipe_of(entry: HostEntry) -> Survey:
    """What an emulated board has, without starting it, which takes seconds: it was tried when it was built."""
    from edgecnn.targets.boards import load_board

    board = load_board(entry.board)
    agent_there = AgentInfo(
        protocol=PROTOCOL,
        python=board.emulation.python if board.emulation else "",
        platform=board.title,
        machine=board.architecture,
        numpy="",
        runtimes=MappingProxyType(dict(board.runtimes)),
    )
    found = {
        name: Runs(environment=name if name in board.environments else DEFAULT_ENVIRONMENT, version=pinned)
        for name, pinned in board.runtimes.items()
    }
    agents = {DEFAULT_ENVIRONMENT: agent_there}
    return Survey(agents=MappingProxyType(agents), runtimes=MappingProxyType(found), problems=MappingProxyType({}))


def lacking(runtime: str, entry: HostEntry, found: Survey) -> TargetError:
    """The error for a runtime that a host has not: which wheel fits it, or that none does."""
    from edgecnn.targets.environments import ENVIRONMENT_SPECS
    from edgecnn.targets.wheels import advice

    if entry.name == LOCAL and runtime in ENVIRONMENT_SPECS:
        return _lacking_here(runtime)
    agent = next(iter(found.agents.values()))
    has = ", ".join(found.runtimes) or "no runtime at all"
    if entry.kind == "emulated":
        from edgecnn.targets.boards import load_board

        why = load_board(entry.board).missing.get(runtime, "")
        return TargetError(f"{entry.name} has no {runtime}", where=entry.place, why=why, hint=f"it has {has}")
    return TargetError(
        f"{entry.name} has no {runtime}",
        where=f"{entry.place}, Python {agent.python}, {agent.machine}",
        why=f"it has {has}",
        hint=advice(runtime, agent.wheel_machine, agent.python, pip=f"{_interpreter(entry)} -m pip"),
    )


def _lacking_here(runtime: str) -> TargetError:
    """The error for a runtime that can have an environment of its own here, and has none."""
    row = RUNTIMES[runtime]
    assert row.environment is not None
    why, hint = f"it needs an environment of its own: {row.environment.why}", f"edgecnn targets setup {runtime}"
    if row.installation == "extra":
        why = f"it is not installed with edgecnn: {row.environment.why}"
        hint += f"\nor, to have it beside edgecnn, {sys.executable} -m pip install {row.requirement}"
    return TargetError(f"{LOCAL} has no {runtime}", why=why, hint=hint)


def _interpreter(entry: HostEntry) -> str:
    """How the user calls the interpreter of a host, for commands in hints."""
    if entry.name == LOCAL:
        return sys.executable
    return entry.place if entry.kind == "local" else "python3"


def _empty(name: TargetName, entry: HostEntry, found: Survey) -> TargetError:
    agent = next(iter(found.agents.values()))
    close = difflib.get_close_matches(name.runtime, found.runtimes, n=1)
    has = ", ".join(found.runtimes)
    return TargetError(
        f"{entry.name} has no runtime" + ("" if name.runtime == "*" else f" called like {name.runtime}"),
        where=f"{entry.place}, Python {agent.python}, {agent.machine}",
        why=f"it has {has}" if has else "",
        hint=close[0] if close else has or "pip install onnxruntime or ai-edge-litert there",
    )
