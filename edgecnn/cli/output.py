"""Print tables, progress bars, bundles and errors."""

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
    from edgecnn.parity.verdict import Unjudged

Column = tuple[str, str]
"""Heading, and ``left`` or ``right``."""


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. If the output is not a terminal, the table is as wide as it needs to be."""
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
    """Progress bars on standard error, if that is a terminal: one for each task until it is done.

    Call the yielded function with the task, how much of it is done, and of how much.
    """
    if not sys.stderr.isatty():
        yield lambda _text, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        waiting = bar.add_task(label, total=None)
        tasks: dict[str, TaskID] = {}

        def update(text: str, done: int, total: int) -> None:
            bar.update(waiting, visible=False)
            if text not in tasks:
                tasks[text] = bar.add_task(text, total=total)
            bar.update(tasks[text], completed=done, total=total, visible=done < total)

        yield update


def print_bundle(bundle: Bundle) -> None:
    """Print the artifacts of a bundle."""
    rows = [
        [a.path.name, f"{a.bytes:,}", ", ".join(f"{n} {c}" for n, c in a.operators.items())] for a in bundle.artifacts
    ]
    print_table([("artifact", "left"), ("bytes", "right"), ("operators", "left")], rows)
    for artifact in bundle.artifacts:
        for note in artifact.spec.notes:
            click.echo(f"note: {artifact.path.name}: {note}", err=True)


def print_unjudged(unjudged: Unjudged) -> None:
    """Print to standard error what could not be judged, and why."""
    if not unjudged.target:
        print_error("", unjudged.error)
        return
    about = f"{unjudged.artifact} on {unjudged.target}" if unjudged.artifact else unjudged.target
    print_error(f"{about} could not be judged", unjudged.error)


def print_error(about: str, error: EdgecnnError) -> None:
    """Print an error to standard error, while the command continues."""
    host = about.removesuffix(" could not be judged")
    where = f"{about}: " if about else ""
    click.echo(f"error: {where}{error.message.removeprefix(f'{host}: ')}", err=True)
    for line in error.lines():
        click.echo(line, err=True)
    if error.detail and (STATE.verbose or STATE.debug):
        click.echo(f"\n{error.detail.rstrip()}", err=True)
