"""Comparison of two records: which results became slower, and whether that is significant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from edgecnn.bench.percentiles import Interval, ratio
from edgecnn.bench.records import HostFacts, Record, Result
from edgecnn.errors import UsageError

MAX_SLOWDOWN = 1.05
MAX_INSTRUCTIONS = 1.005
"""Largest allowed ratio of instruction counts, which other load on the machine cannot change."""
INSTRUCTIONS_MOVE = 0.0002
"""Variation of a count with environment variables and paths, as a share; with the same ones it repeats exactly.
(Inferences within one run differ by more, since the interpreter still adapts to its code. They differ in the same way
in every run, and the median is used.)"""
_MATTERS = ("kind", "machine", "cpu", "cores", "board")

Judgement = Literal["slower", "faster", "same", "unsure", "invalid"]


class ResultChange(msgspec.Struct, frozen=True, kw_only=True):
    """The change of a result from the baseline.

    Attributes:
        label: Label of the result.
        what: ``latency`` or ``instructions``.
        old: Median before, in ns or instructions.
        new: Median now.
        ratio: Of new to old.
        low: Lower end of the ratio's interval; None with too few samples.
        high: Upper end of the ratio's interval.
        limit: Largest ratio that passes.
        trusted: Whether both results are valid. If one was measured on a busy or hot machine, nothing fails.
        failed: Whether both results are valid and the whole interval lies above the limit.
        doubts: Why one of the results is not valid, and what else differs.
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
        """The conclusion from the interval: ``same`` if it lies within the limit, ``unsure`` if it is too wide."""
        if not self.trusted:
            return "invalid"
        if self.low is None or self.high is None:
            return "unsure"
        if self.low > 1 or self.high < 1:
            return "slower" if self.low > 1 else "faster"
        return "same" if 1 / self.limit < self.low and self.high < self.limit else "unsure"


class RecordComparison(msgspec.Struct, frozen=True, kw_only=True):
    """All changes, the results that only one record has, and how the hosts differ if that was allowed."""

    changes: tuple[ResultChange, ...]
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any result became slower than its limit allows."""
        return any(change.failed for change in self.changes)


def compare_records(
    old: Record,
    new: Record,
    *,
    max_slowdown: float = MAX_SLOWDOWN,
    max_instructions: float = MAX_INSTRUCTIONS,
    any_host: bool = False,
) -> RecordComparison:
    """Compare a new record with a baseline.

    A latency fails only if the whole interval of the ratio lies above the limit and both results are valid. Noise
    widens the interval, and other load, throttling or drift makes results invalid, so neither causes a failure.
    Instruction counts have practically no noise and a separate limit.

    Args:
        old: The baseline.
        new: The new record.
        max_slowdown: Largest allowed ratio of median latencies.
        max_instructions: Largest allowed ratio of instruction counts.
        any_host: Compare even if the hosts differ in processor, cores, board or governor.

    Raises:
        UsageError: The records have nothing in common, or their hosts differ.
    """
    before, now = ({r.key: r for r in record.results if r.error is None} for record in (old, new))
    common = [key for key in now if key in before]
    if not common:
        raise UsageError(
            "the two records have no result in common",
            why=f"{_labels(before.values())} against {_labels(now.values())}",
            hint="the same artifacts, targets, threads and batches in both",
        )
    differences = host_differences(old, new, {before[key].host for key in common})
    if differences and not any_host:
        raise UsageError(
            "the two records were measured on different hosts", why="\n".join(differences), hint="--any-host"
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
    """Differences between hosts of the same name that affect results, where both values are known.

    These are processor, cores and board, and the governor if time is measured.
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
