"""Two records: did anything get slower, and is that certain?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from edgecnn.bench.percentiles import Interval, ratio
from edgecnn.bench.records import HostFacts, Record, Result
from edgecnn.errors import UsageError

MAX_SLOWDOWN = 1.05
MAX_INSTRUCTIONS = 1.005
"""The gate for counted instructions, which no neighbour can move."""
INSTRUCTIONS_MOVE = 0.0002
"""How far a count moves with the environment and the paths, as a share; in the same ones it repeats to the instruction.
(The inferences of one run differ from each other by more, since the interpreter is still adapting to its code. They do
so in each run alike, and the median of them is what counts.)"""
_MATTERS = ("kind", "machine", "cpu", "cores", "board")

Judgement = Literal["slower", "faster", "same", "unsure", "invalid"]


class ResultChange(msgspec.Struct, frozen=True, kw_only=True):
    """A result against its baseline.

    Attributes:
        label: The result's.
        what: ``latency`` or ``instructions``.
        old: Median before, in ns or instructions.
        new: Median now.
        ratio: Of new to old.
        low: Its interval's lower end; None where there is too little to tell.
        high: Its upper end.
        limit: What it may be.
        trusted: Whether both results are valid: a machine that was busy or hot on one of the two days fails nothing.
        failed: Whether the interval lies above the limit, and both results can be trusted.
        doubts: Why one of the two should not be trusted, and what else differs.
    """

    label: str
    what: str
    old: float
    new: float
    ratio: float
    low: float | None
    high: float | None
    limit: float
    trusted: bool
    failed: bool
    doubts: tuple[str, ...] = ()

    @property
    def judgement(self) -> Judgement:
        """What the interval says; ``same`` where it lies within the limit, and ``unsure`` where it is too wide."""
        if not self.trusted:
            return "invalid"
        if self.low is None or self.high is None:
            return "unsure"
        if self.low > 1 or self.high < 1:
            return "slower" if self.low > 1 else "faster"
        return "same" if 1 / self.limit < self.low and self.high < self.limit else "unsure"


class RecordComparison(msgspec.Struct, frozen=True, kw_only=True):
    """All changes, what only one of the two records has, and how the hosts differ where that was allowed."""

    changes: tuple[ResultChange, ...]
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything got slower than it may."""
        return any(change.failed for change in self.changes)


def compare_records(
    old: Record,
    new: Record,
    *,
    max_slowdown: float = MAX_SLOWDOWN,
    max_instructions: float = MAX_INSTRUCTIONS,
    any_host: bool = False,
) -> RecordComparison:
    """What has changed from a baseline to now.

    A latency fails only when the whole interval of the ratio lies above the limit and both results are valid: noise
    widens the interval, and other load, throttling or drift makes results invalid, so a bad day of the machine does not
    fail. Instruction counts have no noise worth the name, and a limit of their own.

    Args:
        old: The baseline.
        new: Now.
        max_slowdown: Ratio of medians that is allowed.
        max_instructions: The same for instructions.
        any_host: Compare even where the hosts differ in what matters.

    Raises:
        UsageError: The records have nothing in common, or their hosts differ.
    """
    before, now = ({r.key: r for r in record.results if r.error is None} for record in (old, new))
    common = [key for key in now if key in before]
    if not common:
        raise UsageError(
            "the two records have nothing in common",
            why=f"{_labels(before.values())} against {_labels(now.values())}",
            hint="the same artifacts, targets, threads and batches in both",
        )
    differences = host_differences(old, new, {before[key].host for key in common})
    if differences and not any_host:
        raise UsageError(
            "the two records were measured on hosts that differ", why="\n".join(differences), hint="--any-host"
        )
    limits = (max_slowdown, max_instructions)
    changes = [change for key in common if (change := _change(before[key], now[key], limits)) is not None]
    return RecordComparison(
        changes=tuple(changes),
        only_old=tuple(result.label for key, result in before.items() if key not in now),
        only_new=tuple(result.label for key, result in now.items() if key not in before),
        differences=tuple(differences),
    )


def host_differences(old: Record, new: Record, names: set[str]) -> list[str]:
    """How hosts of the same names differ in what moves results, as far as both are known.

    That is processor, cores and board, and where time is measured the governor.
    """
    found = []
    for name in sorted(names):
        a, b = old.hosts[name], new.hosts.get(name)
        if b is None:
            continue
        for what, one, other in _facts(a, b):
            if one is not None and other is not None and one != other:
                found.append(f"{name}: {what} {one} and {other}")
    return found


def _facts(a: HostFacts, b: HostFacts) -> list[tuple[str, object, object]]:
    facts = [(what, getattr(a, what), getattr(b, what)) for what in _MATTERS]
    governor = [("governor", a.before.governor, b.before.governor)]
    return [*facts, *(governor if a.kind != "emulated" else [])]


def _change(old: Result, new: Result, limits: tuple[float, float]) -> ResultChange | None:
    if old.instructions and new.instructions:
        return _counted(old, new, limits[1])
    if not (old.samples_ns and new.samples_ns) or old.statistics is None or new.statistics is None:
        return None
    found = ratio(new.rounds, old.rounds)
    doubts = [f"{when}: {i.reason}" for when, r in (("before", old), ("now", new)) for i in r.invalid_reasons]
    doubts += [] if old.version == new.version else [f"{new.runtime} {old.version} before, {new.version} now"]
    medians = (old.statistics.p50.value, new.statistics.p50.value)
    return _judged(new, "latency", medians, found, limits[0], tuple(doubts), trusted=old.valid and new.valid)


def _counted(old: Result, new: Result, limit: float) -> ResultChange:
    before, now = old.instructions_median or 1, new.instructions_median or 1
    value = now / before
    found = Interval(value=value, low=value * (1 - INSTRUCTIONS_MOVE), high=value * (1 + INSTRUCTIONS_MOVE))
    doubts = () if old.version == new.version else (f"{new.runtime} {old.version} before, {new.version} now",)
    return _judged(new, "instructions", (float(before), float(now)), found, limit, doubts)


def _judged(
    new: Result,
    what: str,
    medians: tuple[float, float],
    found: Interval,
    limit: float,
    doubts: tuple[str, ...],
    *,
    trusted: bool = True,
) -> ResultChange:
    return ResultChange(
        label=new.label,
        what=what,
        old=medians[0],
        new=medians[1],
        ratio=found.value,
        low=found.low,
        high=found.high,
        limit=limit,
        trusted=trusted,
        failed=trusted and found.low is not None and found.low > limit,
        doubts=doubts,
    )


def _labels(results: Iterable[Result]) -> str:
    labels = [result.label for result in results]
    return ", ".join(labels[:3]) + (" ..." if len(labels) > 3 else "") or "nothing"
