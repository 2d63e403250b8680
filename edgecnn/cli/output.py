"""Tables, JSON and progress for people and programs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from edgecnn.cli.state import STATE

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle
    from edgecnn.errors import EdgecnnError
    from edgecnn.parity.verdict import CheckReport, Unjudged, Verdict

Column = tuple[str, str]
"""Heading, and ``left`` or ``right``."""


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Where output is no terminal it is as wide as it needs to be; nothing is cut off."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading, side in columns:
        table.add_column(heading, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=400)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr where that is a terminal: call it with what runs, how much is done, and of how much."""
    if not sys.stderr.isatty():
        yield lambda _text, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda text, done, total: bar.update(task, description=text, completed=done, total=total)


def print_bundle(bundle: Bundle) -> None:
    """Print what a bundle holds."""
    rows = [
        [a.path.name, f"{a.bytes:,}", ", ".join(f"{n} {c}" for n, c in a.operators.items())] for a in bundle.artifacts
    ]
    print_table([("artifact", "left"), ("bytes", "right"), ("operators", "left")], rows)
    for artifact in bundle.artifacts:
        for note in artifact.spec.notes:
            click.echo(f"note: {artifact.path.name}: {note}", err=True)


def print_report(report: CheckReport) -> None:
    """Print a check's verdicts and what they come to."""
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    columns: list[Column] = [("artifact", "left"), ("target", "left"), ("version", "left"), ("samples", "left")]
    if len({v.output for v in report.verdicts}) > 1:
        columns.append(("output", "left"))
    columns += [("max abs error", "right"), ("of range", "right")]
    integers = any(v.lsb_max is not None for v in report.verdicts)
    if integers:
        columns.append(("LSB max, mean", "right"))
    scores = any(v.top1_agreement is not None for v in report.verdicts)
    if scores:
        columns += [("top-1 agrees", "right"), ("accuracy", "right"), ("reference", "right")]
    outputs = ("output", "left") in columns
    columns.append(("verdict", "left"))
    if report.verdicts:
        print_table(columns, [_row(v, outputs=outputs, integers=integers, scores=scores) for v in report.verdicts])
    for name, layers in sorted({v.artifact: v.float_layers for v in report.verdicts if v.float_layers}.items()):
        click.echo(f"{name} computes in float, as its recipe says: {', '.join(layers)}")
    for v in (v for v in report.verdicts if not v.passed):
        click.echo(f"failed: {v.artifact} on {v.target}, {v.samples_from}, output {v.output}: {v.reason}")
    for u in report.unjudged:
        print_unjudged(u)
    failed = sum(not v.passed for v in report.verdicts)
    lost = f"; {len(report.unjudged)} could not be judged" if report.unjudged else ""
    references = ", ".join(sorted({f"{v.samples_from} against {v.reference}" for v in report.verdicts}))
    if failed:
        click.echo(f"check: {failed} of {len(report.verdicts)} verdicts failed{lost} ({references})")
    elif not report.verdicts:
        click.echo("check: nothing could be judged")
    elif lost:
        count = len(report.verdicts)
        click.echo(f"check: incomplete: {count} of {count} verdicts passed{lost} ({references})")
    else:
        click.echo(f"check: passed, {len(report.verdicts)} of {len(report.verdicts)} verdicts ({references})")


def print_unjudged(unjudged: Unjudged) -> None:
    """Print to standard error what could not be judged, and why."""
    about = f"{unjudged.artifact} on {unjudged.target}" if unjudged.artifact else unjudged.target
    print_error(f"{about} could not be judged", unjudged.error)


def print_error(about: str, error: EdgecnnError) -> None:
    """Print to standard error what failed while other things did not."""
    host = about.removesuffix(" could not be judged")
    click.echo(f"error: {about}: {error.message.removeprefix(f'{host}: ')}", err=True)
    for line in error.lines():
        click.echo(line, err=True)
    if error.detail and (STATE.verbose or STATE.debug):
        click.echo(f"\n{error.detail.rstrip()}", err=True)


def _row(v: Verdict, *, outputs: bool, integers: bool, scores: bool) -> list[str]:
    row = [v.artifact, v.target, v.runtime_version, v.samples_from]
    row += [v.output] if outputs else []
    row += [f"{v.max_abs_error:.2e}", f"{v.relative_error:.1e}"]
    if integers:
        row.append("-" if v.lsb_max is None else f"{v.lsb_max:.0f}, {v.lsb_mean:.3f}")
    if scores:
        row += [_share(v.top1_agreement), _share(v.accuracy), _share(v.reference_accuracy)]
    return [*row, "passed" if v.passed else "FAILED"]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
