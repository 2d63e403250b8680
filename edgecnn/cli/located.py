"""Print where failures come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgecnn.cli.output import Column, print_table

if TYPE_CHECKING:
    from edgecnn.locate.expected import Gap
    from edgecnn.locate.location import Line, Location

_BEFORE, _AFTER = 2, 4
"""Lines shown before and after the first operator that breaks its rule."""
_BAR = 16
_SMALLEST = 1e-8
"""Share of a range that has no bar; the whole range has the longest bar."""
_LONGEST = 256
"""LSB that have the longest bar."""


def print_locations(locations: Sequence[Location], *, whole: bool) -> None:
    """Print what was located: layer, size and cause, and how errors grow along the network.

    Args:
        locations: The artifacts that were examined.
        whole: Show every value, not only those around the first operator that breaks its rule.
    """
    for location in locations:
        if not location.found and not whole:
            click.echo(f"located: {location.artifact} on {location.target}: no operator breaks its rule")
        else:
            _print_one(location, whole=whole)
        for note in location.notes:
            click.echo(f"note: {location.artifact} on {location.target}: {note}", err=True)


def _print_one(location: Location, *, whole: bool) -> None:
    click.echo(f"located: {location.artifact} on {location.runtime}, board {location.board} ({location.target})")
    rows = [("layer", location.layer or "no operator breaks its rule"), ("size", location.size)]
    rows += [("fault", location.fault), ("cause", location.cause), ("try", location.remedy)]
    for label, text in rows:
        if text:
            click.echo(f"  {label + ':':<7}{text}")
    lines = location.lines if whole else _near(location.lines)
    if lines:
        _print_drift(lines)
        if len(lines) < len(location.lines):
            click.echo(f"  {len(lines)} of {len(location.lines)} values; --locate shows all")


def _near(lines: Sequence[Line]) -> Sequence[Line]:
    first = next((i for i, line in enumerate(lines) if line.broken), None)
    return () if first is None else lines[max(first - _BEFORE, 0) : first + _AFTER + 1]


def _print_drift(lines: Sequence[Line]) -> None:
    re_exported = any(line.anew is not None for line in lines)
    columns: list[Column] = [("value", "left"), ("operator", "left"), ("end to end", "right"), ("", "left")]
    columns += [("in isolation", "right"), *([("re-exported", "right")] if re_exported else []), ("", "left")]
    rows = []
    for line in lines:
        row = [line.value, line.operator, _text(line.drift), bar(line.drift), _text(line.alone)]
        row += [_text(line.anew)] if re_exported else []
        rows.append([*row, "breaks its rule" if line.broken else ""])
    print_table(columns, rows)


def _text(gap: Gap | None) -> str:
    if gap is None:
        return "-"
    if math.isinf(gap.largest):
        return "NaN"
    return f"{gap.largest:.3g} LSB, {gap.mean:.2g}" if gap.unit == "LSB" else f"{gap.largest:.1e}"


def bar(gap: Gap) -> str:
    """A bar for a difference, on a logarithmic scale."""
    if gap.largest <= 0:
        return ""
    if gap.unit == "LSB":
        share = math.log2(1 + min(gap.largest, _LONGEST)) / math.log2(1 + _LONGEST)
    else:
        share = 1 - math.log10(min(max(gap.largest, _SMALLEST), 1.0)) / math.log10(_SMALLEST)
    return "█" * round(share * _BAR)
