"""Output for GitHub Actions: annotations and the job summary.

Formats: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.errors import UsageError
from edgecnn.report.outcome import Outcome

MOST_ANNOTATIONS = 10
"""Number of errors that GitHub shows for one step."""
MOST_LETTERS = 4096
"""Longest message of an annotation; the runner truncates longer ones (``_maxIssueMessageLength`` in actions/runner)."""
MOST_BYTES = 1 << 20
"""Largest summary of one step; GitHub drops larger ones."""
_CLOSED, _REST = b"\n\n</details>", b"\n\nThe rest does not fit GitHub's summary.\n"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a file in the repository, at which an annotation is shown."""

    file: str
    line: int | None = None


def annotate(outcomes: Sequence[Outcome], places: Mapping[str, SourceLine] | None = None) -> list[str]:
    """Format a line ``::error title=...::message`` for each failure, at most as many as GitHub shows.

    Args:
        outcomes: All outcomes.
        places: The line that defines each model, by the model's name.
    """
    bad = [o for o in outcomes if o.bad]
    shown = bad if len(bad) <= MOST_ANNOTATIONS else bad[: MOST_ANNOTATIONS - 1]
    lines = [_annotation(o, (places or {}).get(o.model)) for o in shown]
    if len(shown) < len(bad):
        rest = "\n".join(o.name for o in bad[len(shown) :])
        lines.append(f"::error title={_property(f'edgecnn: {len(bad) - len(shown)} more')}::{_data(_shown(rest))}")
    return lines


def _annotation(outcome: Outcome, place: SourceLine | None) -> str:
    failed = "failed" if outcome.status == "failed" else "could not be judged"
    properties = {"title": f"edgecnn {outcome.step}: {outcome.place} {failed}"}
    if place is not None:
        properties = {"file": place.file, **({} if place.line is None else {"line": str(place.line)}), **properties}
    said = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    about = f"{outcome.subject}: {outcome.message}" if outcome.subject else outcome.message
    text = _shown("\n".join((about, *outcome.details)))
    return f"::error {said}::{_data(text)}"


def _shown(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def add_summary(file: Path, text: str) -> None:
    """Append a text to the job summary, to which other commands of the same step may have written before.

    GitHub drops the whole summary of a step if it is too large, so only as much as fits is appended.

    Raises:
        UsageError: The file cannot be written.
    """
    data = text.encode(errors="backslashreplace")
    try:
        with file.open("ab") as opened:
            room = MOST_BYTES - opened.tell()
            opened.write(data if len(data) <= room else _cut(data, room))
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(
            f"the job's summary {file} cannot be written", why=why, hint="unset GITHUB_STEP_SUMMARY"
        ) from error


def _cut(data: bytes, room: int) -> bytes:
    """The first lines that fit, and a note that more follows, outside any folded section; empty if no line fits."""
    kept = data[: max(room - len(_CLOSED) - len(_REST), 0)].rpartition(b"\n")[0]
    end = (_CLOSED if kept.count(b"<details>") > kept.count(b"</details>") else b"") + _REST
    return kept + end if kept else b""
