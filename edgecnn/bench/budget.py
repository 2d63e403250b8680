"""Budgets: what a result may cost at most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

import msgspec

from edgecnn.bench.records import Result
from edgecnn.errors import UsageError
from edgecnn.targets.runtimes import RUNTIMES

Cost = Callable[[Result], float | None]
WHERE_MEASURED = (
    "instructions_m is for emulated boards, latencies are for all others, arena_kb is for "
    f"{' and '.join(row.name for row in RUNTIMES.values() if row.arena)}"
)
"""Which targets have which costs, as a hint."""


class OverBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A result that costs more than its budget."""

    subject: str
    item: str
    value: float
    limit: float

    def __str__(self) -> str:
        return f"{self.subject}: {self.words}"

    @property
    def words(self) -> str:
        """How much it costs, and by how much that is too much."""
        return f"{self.item} is {self.value:,.4g}, {self.value / self.limit - 1:.1%} over {self.limit:,.4g}"


def _percentile_ms(name: str) -> Cost:
    def cost(result: Result) -> float | None:
        return None if result.statistics is None else float(getattr(result.statistics, name).value) / 1e6

    return cost


def _peak_kb(result: Result) -> float | None:
    peaks = [p.peak_above_kb for p in result.processes]
    known = [float(peak) for peak in peaks if peak is not None]
    return max(known) if known else None


def _largest(name: str, per: float) -> Cost:
    def cost(result: Result) -> float | None:
        values = [getattr(p, name) for p in result.processes]
        known = [float(v) / per for v in values if v is not None]
        return max(known) if known else None

    return cost


ITEMS: Mapping[str, Cost] = MappingProxyType(
    {
        "latency_p50_ms": _percentile_ms("p50"),
        "latency_p90_ms": _percentile_ms("p90"),
        "latency_p99_ms": _percentile_ms("p99"),
        "first_ms": _largest("first_ns", 1e6),
        "load_ms": _largest("load_ns", 1e6),
        "size_kb": lambda result: result.bytes / 1000,
        "peak_kb": _peak_kb,
        "arena_kb": _largest("arena_bytes", 1000),
        "instructions_m": lambda r: None if r.instructions_median is None else r.instructions_median / 1e6,
    }
)
"""What can have a limit: ms, kB (1000 bytes; ``peak_kb`` in the kernel's 1024), millions of instructions."""


def parse_budget(text: str) -> dict[str, float]:
    """Read ``latency_p99_ms=5,size_kb=100``.

    Raises:
        UsageError: An item is not known, given twice, or its limit is not a positive number.
    """
    budget: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = (p.strip() for p in part.partition("="))
        if name not in ITEMS:
            raise UsageError(f"a budget has no item {name!r}", hint=f"one of {', '.join(ITEMS)}")
        if name in budget:
            raise UsageError(f"the budget names {name} twice", hint="leave one out")
        budget[name] = check_limit(name, value)
    if not budget:
        raise UsageError("the budget is empty", hint="latency_p99_ms=5,size_kb=100")
    return budget


def check_limit(name: str, value: str | float) -> float:
    """A limit as a number.

    Raises:
        UsageError: It is not a positive number.
    """
    try:
        limit = float(value)
    except (TypeError, ValueError):
        limit = math.nan
    if isinstance(value, bool) or not (math.isfinite(limit) and limit > 0):
        raise UsageError(f"{name}={value} is no limit", hint=f"a positive number, such as {name}=5")
    return limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectBudget:
    """A limit of ``edgecnn.toml``, for the targets whose names fit the glob."""

    targets: str
    item: str
    limit: float


def over_project_budgets(results: Sequence[Result], budgets: Sequence[ProjectBudget]) -> Iterator[OverBudget]:
    """What costs more than the project allows; what a budget is for may not have been measured this time."""
    for budget in budgets:
        for result in results:
            value = ITEMS[budget.item](result) if fnmatchcase(result.target, budget.targets) else None
            if value is not None and value > budget.limit:
                yield OverBudget(subject=result.label, item=budget.item, value=value, limit=budget.limit)


def over_budget(results: Sequence[Result], budget: Mapping[str, float]) -> Iterator[OverBudget]:
    """What costs too much, in the order of results and items.

    An item that a result does not have (latency on an emulated board, arena bytes where the runtime does not tell)
    is not over; an item that no result has is a mistake.

    Raises:
        UsageError: No result has an item.
    """
    for name, limit in budget.items():
        if all(ITEMS[name](result) is None for result in results):
            raise UsageError(f"nothing that was measured has {name}", hint=WHERE_MEASURED)
        for result in results:
            value = ITEMS[name](result)
            if value is not None and value > limit:
                yield OverBudget(subject=result.label, item=name, value=value, limit=limit)
