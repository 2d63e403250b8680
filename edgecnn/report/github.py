"""What GitHub Actions shows beside a job: annotations, and the job's summary.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands says how both are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.errors import UsageError
from edgecnn.report.outcome import Outcome

MOST_ANNOTATIONS = 10
"""Errors that GitHub shows of one step."""
MOST_LETTERS = 4096
"""Of one annotation's message: the runner cuts off the rest (``_maxIssueMessageLength`` in actions/runner)."""
MOST_BYTES = 1 << 20
"""Of the summary of one step; GitHub drops one that is longer."""
_CLOSED, _REST = b"\n\n</details>", b"\n\nThe rest does not fit GitHub's summary.\n"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a file of the repository, which an annotation is shown at."""

    file: str
    line: int | None = None


def annotate(outcomes: Sequence[Outcome], places: Mapping[str, SourceLine] | None = None) -> list[str]:
    """A line ``::error title=...::message`` for each thing that is wrong, at most as many as GitHub shows.

    Args:
        outcomes: What came of everything.
        places: Where each model is spoken of, by its name.
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
    """Add a text to the job's summary, as GitHub wants it: others may have written there before, in the same step too.

    All of a step's summary is dropped where it is too long together, so only what fits beside the rest is added.

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
    """The first lines, and the word that there are more, outside of what readers must unfold; nothing if that is it."""
    kept = data[: max(room - len(_CLOSED) - len(_REST), 0)].rpartition(b"\n")[0]
    end = (_CLOSED if kept.count(b"<details>") > kept.count(b"</details>") else b"") + _REST
    return kept + end if kept else b""
