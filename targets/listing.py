"""What hosts there are, and what each has, asked all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgecnn.errors import TargetError
from edgecnn.targets.config import Config, HostEntry
from edgecnn.targets.hosts.host import DEFAULT_ENVIRONMENT
from edgecnn.targets.hosts.machine_info import AgentInfo, ProbeInfo
from edgecnn.targets.parallel import at_once
from edgecnn.targets.target import recipe_of, survey_of, time_limit_of, unbuilt

LISTING_TIME_LIMIT = 20.0
"""Seconds for one answer of a host that is only listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """A host.

    Attributes:
        name: Its name.
        kind: ``local``, ``ssh`` or ``emulated``.
        place: What it is, for people.
        origin: ``edgecnn``, or the file that names it.
        state: ``ready``, ``not built`` or ``not reached``.
        runtimes: Versions by name; of an emulated board what its recipe has.
        why: Why it is not ready.
        hint: What to try.
        notes: What is not as it should be though it is ready: an environment that does not start.
    """

    name: str
    kind: str
    place: str
    origin: str
    state: str
    runtimes: Mapping[str, str | None] = field(default_factory=dict)
    why: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What one host says of itself.

    Attributes:
        agent: Versions there, in the default environment.
        machine: Board, processor, memory and so on.
        runtimes: Versions by name, over all environments.
        notes: Environments that do not start, and why.
    """

    agent: AgentInfo
    machine: ProbeInfo
    runtimes: Mapping[str, str | None]
    notes: tuple[str, ...] = ()


def list_hosts(config: Config, *, time_limit: float | None = None) -> list[HostRow]:
    """A row for each host, in the order of the configuration. Emulated boards are not started: their recipes tell."""
    entries = list(config.hosts.values())
    limit = LISTING_TIME_LIMIT if time_limit is None else time_limit
    return at_once(lambda entry: _row(entry, limit), entries)


def probe_host(entry: HostEntry, *, time_limit: float | None = None) -> Probed:
    """Ask a host for all it tells.

    Raises:
        TargetError: It cannot be reached, or its default environment does not start.
    """
    if why := unbuilt(entry):
        raise TargetError(f"{entry.name} is not built yet", hint=why.partition(": ")[2])
    found = recipe_of(entry) if entry.kind == "emulated" else survey_of(entry, time_limit)
    if DEFAULT_ENVIRONMENT not in found.agents:
        raise found.problems[DEFAULT_ENVIRONMENT]
    with entry.make().start(time_limit=time_limit_of(entry.kind, time_limit)) as connection:
        agent, machine = connection.hello(), connection.probe()
    return Probed(
        agent=agent,
        machine=machine,
        runtimes={name: r.version for name, r in found.runtimes.items()},
        notes=_notes(found.problems),
    )


def _row(entry: HostEntry, time_limit: float) -> HostRow:
    if entry.kind == "emulated":
        return _board_row(entry)
    found = survey_of(entry, time_limit)
    common: dict[str, Any] = {"name": entry.name, "kind": entry.kind, "place": entry.place, "origin": entry.origin}
    if not found.agents:
        problem = next(iter(found.problems.values()))
        cause = problem.why.partition("its last words were")[0].strip().replace("\n", " ")  # those are for `probe`
        why = problem.message.removeprefix(f"{entry.name}: ") + (f"; {cause}" if cause else "")
        return HostRow(state="not reached", why=why, hint=problem.hint, **common)
    runtimes = {name: r.version for name, r in found.runtimes.items()}
    return HostRow(state="ready", runtimes=runtimes, notes=_notes(found.problems), **common)


def _board_row(entry: HostEntry) -> HostRow:
    from edgecnn.targets.boards import load_board
    from edgecnn.targets.emulation import emulation_problems

    board = load_board(entry.board)
    common: dict[str, Any] = {
        "name": entry.name,
        "kind": entry.kind,
        "place": board.title,
        "origin": entry.origin,
        "runtimes": board.runtimes,
    }
    problems = [problem for problem in emulation_problems(board) if problem.fatal]
    if problems:
        return HostRow(state="not built", why=problems[0].what, hint=problems[0].hint, **common)
    if unbuilt(entry):
        return HostRow(state="not built", hint=f"edgecnn targets emulate {board.name}", **common)
    return HostRow(state="ready", **common)


def _notes(problems: Mapping[str, TargetError]) -> tuple[str, ...]:
    return tuple(f"environment {name or 'of the host itself'}: {error.message}" for name, error in problems.items())
