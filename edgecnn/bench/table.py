"""Results as table rows for terminals, CSV and Markdown, and small charts made of characters."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgecnn.bench.budget import ITEMS
from edgecnn.bench.records import Profile, Result
from edgecnn.bench.regression import RecordComparison

_BLOCKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_SHAPE = 16  # characters of a distribution's shape in a table
_BAR = 24  # of a bar in a chart
_BINS = 16  # lines of a histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: heading with unit, value for CSV, text for people, and alignment."""

    name: str
    heading: str
    value: Callable[[Result], float | int | str | None]
    text: Callable[[Result], str]
    left: bool = False
    optional: bool = False


def shape(samples: Sequence[int], width: int = _SHAPE) -> str:
    """The shape of a distribution in one line, from its fastest sample to `_end`."""
    values = np.sort(np.asarray(samples, np.float64))
    if not len(values):
        return ""
    end = _end(values)
    counts, _ = np.histogram(values[values <= end], bins=width, range=(values[0], max(end, values[0] + 1)))
    top = int(counts.max())
    return "".join(" " if not c else _BLOCKS[(len(_BLOCKS) - 1) * c // top] for c in map(int, counts))


def histogram(result: Result) -> list[str]:
    """A result's histogram, a line for each bin; the last line counts samples slower than `_end`."""
    values = np.sort(np.concatenate([np.array(s, np.float64) for s in result.samples_ns])) / 1000
    end = _end(values)
    counts, edges = np.histogram(values[values <= end], bins=_BINS, range=(values[0], max(end, values[0] + 1e-3)))
    lines = [
        f"{low:>12,.1f} us  {bar(int(c) / max(int(counts.max()), 1)):<{_BAR}} {int(c):,}"
        for low, c in zip(edges[:-1], counts, strict=True)
    ]
    above = int((values > end).sum())
    return [*lines, f"{f'> {end:,.1f}':>12} us  {'':<{_BAR}} {above:,}, the slowest {values[-1]:,.1f} us"]


def _end(ordered: NDArray[np.float64]) -> float:
    """Upper end of a chart: the 99th percentile, or less if a few outliers would leave all other samples in one bin."""
    low, middle, high, end = np.percentile(ordered, (25, 50, 75, 99))
    return float(min(end, middle + max(10 * (high - low), 0.05 * middle)))


def bar(share: float, width: int = _BAR) -> str:
    """A bar for a share of 1, in eighths of a character."""
    eighths: int = round(max(0.0, min(1.0, share)) * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8]


def profile_rows(profile: Profile) -> list[list[str]]:
    """Rows of a profile in execution order: module, operator, us, share, bar."""
    top = max((o.share for o in profile.operators), default=0.0) or 1.0
    return [
        [o.module, o.operator, f"{o.ns / 1000:,.1f}", f"{o.share:.1%}", bar(o.share / top)] for o in profile.operators
    ]


def _us(name: str) -> tuple[Callable[[Result], float | None], Callable[[Result], str]]:
    def value(result: Result) -> float | None:
        found = None if result.statistics is None else getattr(result.statistics, name)
        return None if found is None else float(getattr(found, "value", found)) / 1000

    return value, lambda result: _number(value(result))


def _median(name: str) -> tuple[Callable[[Result], float | None], Callable[[Result], str]]:
    def value(result: Result) -> float | None:
        values = [getattr(p, name) for p in result.processes]
        known = [v for v in values if v is not None]
        return float(np.median(known)) if known else None

    return value, lambda result: _number(value(result))


def _ms(name: str) -> tuple[Callable[[Result], float | None], Callable[[Result], str]]:
    inner = _median(name)[0]

    def value(result: Result) -> float | None:
        ns = inner(result)
        return None if ns is None else ns / 1e6

    return value, lambda result: _number(value(result))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _interval(result: Result) -> float | None:
    width = None if result.statistics is None else result.statistics.p50.half_width
    return None if width is None or width == float("inf") else width


def _throughput(result: Result) -> float | None:
    return None if result.statistics is None else result.statistics.throughput.value


def _peak(result: Result) -> float | None:
    return ITEMS["peak_kb"](result)


def _instructions(result: Result) -> float | None:
    return ITEMS["instructions_m"](result)


def _roof(result: Result) -> float | None:
    """Share of the board's peak: multiply-accumulates over those that are possible in the median latency."""
    if result.macs is None or result.peak_macs is None or result.statistics is None:
        return None
    return result.macs / (result.statistics.p50.value / 1e9) / result.peak_macs


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _verdict(result: Result) -> str:
    if result.error is not None:
        return "FAILED"
    if result.instructions:
        return "counted"
    return "valid" if result.valid else "INVALID: " + ", ".join(dict.fromkeys(i.kind for i in result.invalid_reasons))


def _shape(result: Result) -> str:
    return shape([n for samples in result.samples_ns for n in samples])


_P50, _P90, _P99, _MIN, _MAD = (_us(n) for n in ("p50", "p90", "p99", "minimum", "mean_absolute_deviation"))
_FIRST, _LOAD, _ARENA = _ms("first_ns"), _ms("load_ns"), _median("arena_bytes")
_COLUMNS = (
    Column(name="artifact", heading="artifact", value=lambda r: r.artifact, text=lambda r: r.artifact, left=True),
    Column(name="target", heading="target", value=lambda r: r.target, text=lambda r: r.target, left=True),
    Column(name="threads", heading="threads", value=lambda r: r.threads, text=lambda r: str(r.threads), optional=True),
    Column(name="batch", heading="batch", value=lambda r: r.batch, text=lambda r: str(r.batch), optional=True),
    Column(name="p50_us", heading="p50 us", value=_P50[0], text=_P50[1]),
    Column(
        name="p50_half_interval",
        heading="+-",
        value=_interval,
        text=lambda r: "-" if _interval(r) is None else f"{_interval(r):.1%}",
    ),
    Column(name="p90_us", heading="p90", value=_P90[0], text=_P90[1]),
    Column(name="p99_us", heading="p99", value=_P99[0], text=_P99[1]),
    Column(name="min_us", heading="min", value=_MIN[0], text=_MIN[1]),
    Column(name="mad_us", heading="mean dev", value=_MAD[0], text=_MAD[1]),
    Column(name="per_second", heading="per s", value=_throughput, text=lambda r: _number(_throughput(r))),
    Column(name="first_ms", heading="first ms", value=_FIRST[0], text=_FIRST[1]),
    Column(name="load_ms", heading="load ms", value=_LOAD[0], text=_LOAD[1]),
    Column(name="peak_kb", heading="peak kB", value=_peak, text=lambda r: _number(_peak(r))),
    Column(name="arena_bytes", heading="arena B", value=_ARENA[0], text=_ARENA[1], optional=True),
    Column(name="size_bytes", heading="size B", value=lambda r: r.bytes, text=lambda r: f"{r.bytes:,}"),
    Column(
        name="macs",
        heading="MACs",
        value=lambda r: r.macs,
        text=lambda r: "-" if r.macs is None else f"{r.macs:,}",
    ),
    Column(name="roof_share", heading="of peak", value=_roof, text=lambda r: _share(_roof(r)), optional=True),
    Column(
        name="instructions_m",
        heading="M instructions (no latency)",
        value=_instructions,
        text=lambda r: "-" if _instructions(r) is None else f"{_instructions(r):,.3f}",
        optional=True,
    ),
    Column(name="shape", heading="shape", value=_shape, text=_shape, left=True),
    Column(name="verdict", heading="verdict", value=_verdict, text=_verdict, left=True),
)
SORTS: Mapping[str, Callable[[Result], float | str]] = MappingProxyType(
    {
        "p50": lambda r: _last(_P50[0](r)),
        "p99": lambda r: _last(_P99[0](r)),
        "peak": lambda r: _last(_peak(r)),
        "size": lambda r: r.bytes,
        "instructions": lambda r: _last(_instructions(r)),
        "artifact": lambda r: r.artifact,
        "target": lambda r: r.target,
    }
)
"""Sort keys of rows; rows without a value come last."""


def _last(value: float | None) -> float:
    return float("inf") if value is None else value


def columns_for(results: Sequence[Result]) -> list[Column]:
    """Columns that have a value for some result; optional columns only if some value is not 1."""
    nothing = {True: ("", None, 1), False: ("", None)}
    return [c for c in _COLUMNS if any(c.value(r) not in nothing[c.optional] for r in results)]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[bool]) -> str:
    """Format a table in Markdown."""
    lines = [headings, ["---" if side else "---:" for side in left], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def as_csv(results: Sequence[Result]) -> str:
    """Format all columns except the chart as CSV, one line for each result, with unrounded numbers."""
    columns = [c for c in _COLUMNS if c.name != "shape"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([c.name for c in columns])
    writer.writerows([_cell(c.value(result)) for c in columns] for result in results)
    return out.getvalue()


def _cell(value: float | str | None) -> str | float | int:
    # Spreadsheets interpret a leading =, +, - or @ as a formula; names of targets and files may come from anywhere.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return "'" + value
    return "" if value is None else value


def comparison_rows(comparison: RecordComparison) -> list[list[str]]:
    """Rows of a comparison: result, before, now, ratio, interval, limit, verdict."""
    rows = []
    for c in comparison.changes:
        scale, unit = (1e-3, "us") if c.what == "latency" else (1e-6, "M instructions")
        interval = "-" if c.low is None else f"{c.low:.3f} to {c.high:.3f}"
        digits = 1 if c.what == "latency" else 3
        old, new = f"{c.old * scale:,.{digits}f} {unit}", f"{c.new * scale:,.{digits}f} {unit}"
        verdict = "FAILED" if c.failed else c.judgement
        rows.append([c.label, old, new, f"{c.ratio:.3f}", interval, f"{c.limit:g}", verdict])
    return rows
