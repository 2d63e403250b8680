"""Budgets: upper limits on the cost of a result."""

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
        """The cost, and how far it exceeds the limit."""
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
"""Items that a budget can limit, in ms, kB (1000 bytes; ``peak_kb``: 1024, as the kernel counts), millions of
instructions."""


def parse_budget(text: str) -> dict[str, float]:
    """Read ``latency_p99_ms=5,size_kb=100``.

    Raises:
        UsageError: An item is unknown or given twice, or its limit is not a positive number.
    """
    budget: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = (p.strip() for p in part.partition("="))
        if name not in ITEMS:
            raise UsageError(f"a budget has no item {name!r}", hint=f"one of {', '.join(ITEMS)}")
        if name in budget:
            raise UsageError(f"the budget names {name} twice", hint="remove one of them")
        budget[name] = check_limit(name, value)
    if not budget:
        raise UsageError("the budget is empty", hint="latency_p99_ms=5,size_kb=100")
    return budget


def check_limit(name: str, value: str | float) -> float:
    """Parse a limit.

    Raises:
        UsageError: It is not a positive number.
    """
    try:
        limit = float(value)
    except (TypeError, ValueError):
        limit = math.nan
    if isinstance(value, bool) or not (math.isfinite(limit) and limit > 0):
        raise UsageError(f"{name}={value} is not a valid limit", hint=f"a positive number, such as {name}=5")
    return limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectBudget:
    """A limit of ``edgecnn.toml``, for targets whose names match a glob pattern."""

    targets: str
    item: str
    limit: float


def over_project_budgets(results: Sequence[Result], budgets: Sequence[ProjectBudget]) -> Iterator[OverBudget]:
    """Results over the project's budgets. Budgets on items that were not measured are ignored."""
    for budget in budgets:
        for result in results:
            value = ITEMS[budget.item](result) if fnmatchcase(result.target, budget.targets) else None
            if value is not None and value > budget.limit:
                yield OverBudget(subject=result.label, item=budget.item, value=value, limit=budget.limit)


def over_budget(results: Sequence[Result], budget: Mapping[str, float]) -> Iterator[OverBudget]:
    """Results over budget, in the order of items and results.

    A result without the item (latency on an emulated board, arena bytes if the runtime does not report them) is not
    over budget. An item that no result has is an error.

    Raises:
        UsageError: No result has an item.
    """
    for name, limit in budget.items():
        if all(ITEMS[name](result) is None for result in results):
            raise UsageError(f"no result has {name}", hint=WHERE_MEASURED)
        for result in results:
            value = ITEMS[name](result)
            if value is not None and value > limit:
                yield OverBudget(subject=result.label, item=name, value=value, limit=limit)
