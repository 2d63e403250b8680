"""Outcomes as Markdown: the summary of a CI job."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from edgecnn.report.outcome import Outcome, number, sized, summary

_HEADINGS = ("result", "artifact", "target", "what", "measured", "limit", "file")
_RIGHT = ("measured", "limit", "file")
_SPECIAL = re.compile(r"([\\`*_\[\]|~])")


def markdown(outcomes: Sequence[Outcome], title: str, notes: Sequence[str] = ()) -> str:
    """Format outcomes as a page: the result, each failure with layer and cause, and a table of all outcomes.

    Args:
        outcomes: All outcomes.
        title: Title of the page.
        notes: Further notes for the reader.
    """
    bad = [o for o in outcomes if o.bad]
    lines = [f"## {escaped(title)}: {escaped(summary(outcomes))}", ""]
    for outcome in bad:
        lines += [f"- **{escaped(outcome.name)}** ({outcome.step}): {escaped(outcome.message)}"]
        lines += [f"  - {escaped(line)}" for line in outcome.details]
    lines += [""] if bad else []
    if outcomes:
        table = [*_table(outcomes), ""]
        lines += ["<details><summary>everything</summary>", "", *table, "</details>", ""] if bad else table
    lines += [f"- note: {escaped(note)}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Escape a text so that Markdown shows it literally, on one line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    rules = ["---:" if heading in _RIGHT else "---" for heading in _HEADINGS]
    rows = [[escaped(cell) for cell in _row(outcome)] for outcome in outcomes]
    return [f"| {' | '.join(cells)} |" for cells in (_HEADINGS, rules, *rows)]


def _row(o: Outcome) -> list[str]:
    what = ", ".join(part for part in (o.step, o.what) if part)
    result = o.status if o.status in ("passed", "skipped") else o.status.upper()
    measured = [number(o.value), number(o.limit), sized(o.size) or "-"]
    return [result, o.artifact or o.model, o.target or "-", what, *measured]
