"""Budgets: what a result may cost at most."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from edgecnn.bench.records import Result
from edgecnn.errors import UsageError

PROJECT_FILE = "edgecnn.toml"
Cost = Callable[[Result], float | None]


class OverBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A result that costs more than its budget."""

    subject: str
    item: str
    value: float
    limit: float

    def __str__(self) -> str:
        over = f"{self.value / self.limit - 1:.1%} over {self.limit:,.4g}"
        return f"{self.subject}: {self.item} is {self.value:,.4g}, {over}"


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


def load_budgets(folder: Path | None = None) -> tuple[ProjectBudget, ...]:
    """The budgets of the nearest ``edgecnn.toml`` of a folder and its parents, up to one with ``.git``.

    Limits in the table ``budget`` are for every target, those in its tables for the targets that their names fit::

        [budget]
        size_kb = 100
        [budget."*@pi4"]
        latency_p99_ms = 5

    Raises:
        UsageError: The file cannot be read, or a limit has no meaning.
    """
    file = _project_file((folder or Path.cwd()).resolve())
    if file is None:
        return ()
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("budget", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {file}", why=str(error), hint="correct it") from error
    try:
        return tuple(_project_budgets(table))
    except UsageError as error:
        error.where = str(file)
        raise


def _project_file(folder: Path) -> Path | None:
    for place in (folder, *folder.parents):
        if (place / PROJECT_FILE).is_file():
            return place / PROJECT_FILE
        if (place / ".git").exists():
            break
    return None


def _project_budgets(table: Any) -> Iterator[ProjectBudget]:
    if not isinstance(table, dict):
        raise UsageError("budget is no table", hint="[budget]")
    for name, value in table.items():
        items = value if isinstance(value, dict) else {name: value}
        for item, limit in items.items():
            if item not in ITEMS:
                raise UsageError(f"a budget has no item {item!r}", hint=f"one of {', '.join(ITEMS)}")
            targets = name if isinstance(value, dict) else "*"
            yield ProjectBudget(targets=targets, item=item, limit=check_limit(item, limit))


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
            hint = "instructions_m is for emulated boards, latencies are for all others, arena_kb is for tflite-micro"
            raise UsageError(f"nothing that was measured has {name}", hint=hint)
        for result in results:
            value = ITEMS[name](result)
            if value is not None and value > limit:
                yield OverBudget(subject=result.label, item=name, value=value, limit=limit)
