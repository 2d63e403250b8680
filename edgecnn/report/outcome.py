"""One thing that was looked at, and what came of it: the form that all reports are made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgecnn.errors import EdgecnnError
from edgecnn.parity.verdict import WHEN_LOCATED, CheckReport, Verdict

Status = Literal["passed", "failed", "error", "skipped"]
"""``failed``: it was judged, and is wrong or costs too much. ``error``: it could not be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One thing that was looked at.

    Attributes:
        model: The model's name.
        step: ``export``, ``check``, ``bench``.
        artifact: The artifact's file name; empty for all of them.
        target: Where, as `edgecnn.targets.names` spells it; empty where that does not matter.
        subject: What else tells it from others: samples and output, or an item of a budget.
        metric: What it rests on; empty where nothing was measured.
        value: The metric's value.
        limit: The value that just passes.
        status: What came of it.
        message: Why, unless it passed.
        layer: The first layer that is wrong, where that was looked for.
        cause: The likely cause, where one was recognised.
        size: Of the artifact, in bytes.
        lines: More to say: where, why, what to try.
    """

    model: str
    step: str
    artifact: str = ""
    target: str = ""
    subject: str = ""
    metric: str = ""
    value: float | None = None
    limit: float | None = None
    status: Status = "passed"
    message: str = ""
    layer: str = ""
    cause: str = ""
    size: int | None = None
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As plain values; ``layer`` and ``cause`` are there only where they are known."""
        return {key: value for key, value in asdict(self).items() if value or key not in WHEN_LOCATED}

    @property
    def name(self) -> str:
        """What it is, the same in every run."""
        return ", ".join(part for part in (self.place, self.subject) if part)

    @property
    def place(self) -> str:
        """What ran where."""
        what = self.artifact or self.model
        return f"{what} on {self.target}" if self.target else what

    @property
    def what(self) -> str:
        """What was looked at there, and what it rests on."""
        return ", ".join(dict.fromkeys(part for part in (self.subject, self.metric) if part))

    @property
    def details(self) -> tuple[str, ...]:
        """Where it goes wrong, why, and how large the file is, a line each."""
        found = (("layer", self.layer), ("cause", self.cause), ("file", sized(self.size)))
        return (*(f"{label}: {text}" for label, text in found if text), *self.lines)

    @property
    def bad(self) -> bool:
        """Whether it stands in the way of success."""
        return self.status in ("failed", "error")


def sized(size: int | None) -> str:
    """A size in words; empty where it is not known."""
    return "" if size is None else f"{size:,} bytes"


def number(value: float | None) -> str:
    """A measured value for people."""
    if value is None:
        return "-"
    return str(value) if not math.isfinite(value) else f"{value:.4g}"


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 where all is good, 1 where something is wrong, 2 where nothing is but something could not be judged."""
    if any(o.status == "failed" for o in outcomes):
        return 1
    good = any(o.status == "passed" for o in outcomes)
    return 0 if good and all(o.status == "passed" for o in outcomes) else 2


def totals(outcomes: Iterable[Outcome]) -> dict[Status, int]:
    """How many there are of each kind."""
    found: dict[Status, int] = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
    for outcome in outcomes:
        found[outcome.status] += 1
    return found


def summary(outcomes: Sequence[Outcome]) -> str:
    """The same in one line: ``failed: 2 of 9 failed, 1 could not be judged``."""
    count = totals(outcomes)
    if not any(count.values()):
        return "nothing was looked at"
    parts = [f"{count['failed']} of {len(outcomes)} failed"] if count["failed"] else []
    parts += [f"{count['error']} could not be judged"] if count["error"] else []
    parts += [f"{count['skipped']} not run"] if count["skipped"] else []
    if not parts:
        return f"passed: {len(outcomes)} of {len(outcomes)}"
    return f"{'failed' if count['failed'] else 'incomplete'}: {', '.join(parts)}"


def check_outcomes(report: CheckReport, model: str, sizes: Mapping[str, int]) -> list[Outcome]:
    """Of a check: one for each verdict, and for what could not be judged.

    Args:
        report: The check's.
        model: The model's name.
        sizes: Of its artifacts in bytes.
    """
    found = [_verdict_outcome(v, model, sizes.get(v.artifact)) for v in report.verdicts]
    lost = [
        error_outcome(u.error, model, "check", artifact=u.artifact, target=u.target, size=sizes.get(u.artifact))
        for u in report.unjudged
    ]
    return [*found, *lost]


def _verdict_outcome(v: Verdict, model: str, size: int | None) -> Outcome:
    return Outcome(
        model=model,
        step="check",
        artifact=v.artifact,
        target=v.target,
        subject=f"{v.samples_from}, {v.output}",
        metric=v.metric,
        value=v.value,
        limit=v.limit,
        status="passed" if v.passed else "failed",
        message=v.reason,
        layer=v.layer,
        cause=v.cause,
        size=size,
    )


def error_outcome(
    error: EdgecnnError, model: str, step: str, *, artifact: str = "", target: str = "", size: int | None = None
) -> Outcome:
    """Of what could not be done."""
    lines = tuple(" ".join(line.split()) for line in error.lines())
    return Outcome(
        model=model,
        step=step,
        artifact=artifact,
        target=target,
        status="error",
        message=error.message,
        size=size,
        lines=lines,
    )
