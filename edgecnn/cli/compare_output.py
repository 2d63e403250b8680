"""Print the result of ``edgecnn compare``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from edgecnn.cli.output import Column, print_table, print_unjudged
from edgecnn.compare.comparison import shown

if TYPE_CHECKING:
    from edgecnn.compare import CompareReport, Comparison

_SHOWN: Mapping[str, tuple[str, str]] = {
    "max_abs_error": ("max abs error", ".2e"),
    "mean_abs_error": ("mean", ".2e"),
    "rmse": ("RMSE", ".2e"),
    "relative_error": ("of range", ".1e"),
    "snr_db": ("SNR dB", ".1f"),
    "psnr_db": ("PSNR dB", ".1f"),
    "cosine": ("cosine", ".6f"),
    "top1_disagreement": ("top-1 differs", ".2%"),
    "top5_disagreement": ("top-5 differs", ".2%"),
    "nans": ("NaN", ".0f"),
    "infinities": ("inf", ".0f"),
}
_ONLY_WHERE_ANY = ("top1_disagreement", "top5_disagreement", "nans", "infinities")


def print_comparison(report: CompareReport) -> None:
    """Print how the files were matched, the measurements, and the verdict."""
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    for line in report.reconciled:
        click.echo(line)
    if report.samples_from:
        click.echo(f"fed with {report.samples_from}\n")
    _print_metrics(report)
    for c in report.comparisons:
        if c.worst:
            places = ", ".join(f"{place} ({apart:.2e})" for apart, place in c.worst)
            click.echo(f"worst samples of {shown(c.output)}: {places}")
    for c in report.comparisons:
        if c.reason:
            click.echo(f"failed: output {shown(c.output)}, {c.target_b} against {c.target_a}: {c.reason}")
    for unjudged in report.unjudged:
        print_unjudged(unjudged)
    click.echo(_verdict(report))


def _print_metrics(report: CompareReport) -> None:
    shown = [n for n in _SHOWN if n not in _ONLY_WHERE_ANY or any(_has(c, n) for c in report.comparisons)]
    columns: list[Column] = [("output", "left"), ("A on", "left"), ("B on", "left"), ("samples", "right")]
    columns += [(_SHOWN[name][0], "right") for name in shown]
    rows = [
        [*_place(c), str(c.samples), *(_cell(c.metrics[n], _SHOWN[n][1]) for n in shown)] for c in report.comparisons
    ]
    if rows:
        print_table(columns, rows)


def _has(c: Comparison, name: str) -> bool:
    """Whether a metric is worth a column: it applies, and a count is not zero."""
    value = c.metrics[name]
    return value is not None and (name.startswith("top") or value > 0)


def _place(c: Comparison) -> list[str]:
    name = shown(c.output) if c.output == c.output_b else f"{shown(c.output)} = {shown(c.output_b)}"
    return [name, f"{c.target_a} {c.version_a}", f"{c.target_b} {c.version_b}"]


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _verdict(report: CompareReport) -> str:
    count, failed = len(report.comparisons), sum(c.passed is False for c in report.comparisons)
    lost = f"; {len(report.unjudged)} could not be judged" if report.unjudged else ""
    limits = ", ".join(f"{name}={limit:g}" for name, limit in report.limits.items())
    if not count:
        return f"compare: nothing could be compared{lost}"
    if failed:
        return f"compare: {failed} of {count} outputs failed{lost}"
    if not report.limits:
        return f"compare: {count} of {count} outputs measured, without limits (--limit METRIC=VALUE sets one){lost}"
    return f"compare: passed, {count} of {count} outputs{lost} ({limits})"
