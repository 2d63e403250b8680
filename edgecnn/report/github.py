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
MOST_BYTES = 1 << 20
"""Of the summary of one step; GitHub drops one that is longer."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file of the repository, which an annotation is shown at."""

    file: str
    line: int | None = None


def annotate(outcomes: Sequence[Outcome], places: Mapping[str, Place] | None = None) -> list[str]:
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
        lines.append(f"::error title={_property(f'edgecnn: {len(bad) - len(shown)} more')}::{_data(rest)}")
    return lines


def _annotation(outcome: Outcome, place: Place | None) -> str:
    failed = "failed" if outcome.status == "failed" else "could not be judged"
    properties = {"title": f"edgecnn {outcome.step}: {outcome.place} {failed}"}
    if place is not None:
        properties = {"file": place.file, **({} if place.line is None else {"line": str(place.line)}), **properties}
    said = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    about = f"{outcome.subject}: {outcome.message}" if outcome.subject else outcome.message
    text = "\n".join((about, *outcome.details))
    return f"::error {said}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def add_summary(file: Path, text: str) -> None:
    """Add a text to the job's summary, as GitHub wants it: other steps may have written there before.

    Raises:
        UsageError: The file cannot be written.
    """
    data = text.encode(errors="backslashreplace")
    if len(data) > MOST_BYTES:
        end = "\n\nThe rest does not fit GitHub's summary.\n"
        data = data[: MOST_BYTES - len(end)].rpartition(b"\n")[0] + end.encode()
    try:
        with file.open("ab") as opened:
            opened.write(data)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(
            f"the job's summary {file} cannot be written", why=why, hint="unset GITHUB_STEP_SUMMARY"
        ) from error
