"""Print the result of ``edgecnn bench``."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgecnn.bench.table import SORTS, as_csv, columns_for, comparison_rows, histogram, markdown, profile_rows
from edgecnn.cli.output import print_table
from edgecnn.targets.printable import printable

if TYPE_CHECKING:
    from edgecnn.bench.measure_bundle import BenchReport
    from edgecnn.bench.records import Result
    from edgecnn.bench.regression import RecordComparison
    from edgecnn.bench.table import Column

_EXPENDABLE = (
    "mad_us",
    "macs",
    "load_ms",
    "min_us",
    "size_bytes",
    "per_second",
    "p90_us",
    "peak_kb",
    "first_ms",
    "shape",
)
_COMPARED = ("result", "before", "now", "ratio", "95 % interval", "limit", "verdict")
_LEFT = (True, False, False, False, False, False, True)
_PROFILED = ("module", "operator", "us", "share", "")
_PROFILED_LEFT = (True, True, False, False, True)


def print_bench(report: BenchReport, form: str, *, sort: str | None, histograms: bool) -> None:
    """Print the table of results, their profiles, and their distributions."""
    results = sorted(report.results, key=SORTS[sort]) if sort else list(report.results)
    if form == "csv":
        click.echo(as_csv(results), nl=False)
        return
    columns = columns_for(results)
    if form == "text" and sys.stdout.isatty():
        columns = _fitting(columns, results, shutil.get_terminal_size().columns)
    rows = [[column.text(result) for column in columns] for result in results]
    _table(form, [c.heading for c in columns], rows, [c.left for c in columns])
    for result in results:
        _details(result, form, histograms=histograms)


def _fitting(columns: list[Column], results: Sequence[Result], width: int) -> list[Column]:
    """The columns that fit a terminal. The least useful ones are dropped first, and a note names them."""
    left_out = []
    for name in _EXPENDABLE:
        wide = sum(max(len(c.heading), *(len(c.text(r)) for r in results)) + 2 for c in columns) if results else 0
        if wide <= width:
            break
        left_out += [c.heading for c in columns if c.name == name]
        columns = [c for c in columns if c.name != name]
    if left_out:
        click.echo(f"note: a wider terminal, --csv or --json shows {', '.join(left_out)}", err=True)
    return columns


def print_notes(report: BenchReport) -> None:
    """Print to standard error why results are invalid, warnings, failures and notes."""
    for result in report.results:
        for reason in result.invalid_reasons:
            _print_hint(f"invalid: {result.label}: {reason.reason}", reason.hint)
        for note in result.notes:
            click.echo(f"note: {result.label}: {note}", err=True)
        if result.error is not None:
            click.echo(f"failed: {result.label}: {result.error}", err=True)
    for warning in report.warnings:
        _print_hint(f"warning: {warning.subject}: {warning.text}", warning.hint)
    for failure in report.failures:
        click.echo(f"failed: {failure.target}: {failure.error}", err=True)
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    _overhead(report)


def _overhead(report: BenchReport) -> None:
    charged = [p.overhead_ns for result in report.results for p in result.processes]
    if charged:
        low, high = min(charged), max(charged)
        click.echo(f"note: timing itself adds {low:,} to {high:,} ns to each call", err=True)


def print_comparison(comparison: RecordComparison, form: str, *, err: bool = False) -> None:
    """Print the changes, then what cannot be compared or trusted."""
    rows = comparison_rows(comparison)
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([_COMPARED, *rows])
        click.echo(out.getvalue(), nl=False)
    elif err:
        click.echo(markdown(_COMPARED, rows, _LEFT), err=True)
    else:
        _table(form, _COMPARED, rows, _LEFT)
    for line in comparison.differences:
        click.echo(printable(f"note: hosts differ: {line}"), err=True)
    for change in comparison.changes:
        for doubt in change.doubts:
            click.echo(printable(f"note: {change.label}: {doubt}"), err=True)
    for when, labels in (("before", comparison.only_old), ("now", comparison.only_new)):
        for label in labels:
            click.echo(f"note: only {when}: {label}", err=True)
    failed = [c for c in comparison.changes if c.failed]
    for c in failed:
        click.echo(
            f"slower: {c.label}: {c.what} {c.ratio:.3f} times as much, at least {c.low:.3f}; limit {c.limit:g}", err=err
        )


def _details(result: Result, form: str, *, histograms: bool) -> None:
    if result.profile is not None:
        click.echo(f"\n{result.label}: where the time goes ({result.profile.method})\n")
        _table(form, _PROFILED, profile_rows(result.profile), _PROFILED_LEFT)
    if histograms and result.samples_ns:
        lines = histogram(result)
        click.echo(f"\n{result.label}: distribution\n")
        click.echo("\n".join(["```", *lines, "```"] if form == "markdown" else lines))


def _table(form: str, headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[bool]) -> None:
    if form == "markdown":
        click.echo(markdown(headings, rows, left))
    else:
        print_table([(h, "left" if side else "right") for h, side in zip(headings, left, strict=True)], rows)


def _print_hint(text: str, hint: str) -> None:
    click.echo(text, err=True)
    click.echo(f"  try:   {hint}", err=True)
