"""The outcome of one check or measurement: the data that all reports are made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgecnn.errors import EdgecnnError
from edgecnn.parity.verdict import WHEN_LOCATED, CheckReport, Verdict

Status = Literal["passed", "failed", "error", "skipped"]
"""``failed``: the result is wrong or over budget. ``error``: it could not be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one check or measurement.

    Attributes:
        model: The model's name.
        step: ``export``, ``check``, ``bench``.
        artifact: File name of the artifact; empty for all artifacts.
        target: The target, in the notation of `edgecnn.targets.names`; empty if it does not matter.
        subject: What distinguishes it from other outcomes: samples and output, or an item of a budget.
        metric: The deciding metric; empty if nothing was measured.
        value: Value of the metric.
        limit: The largest (or smallest) value that passes.
        status: The result.
        message: The reason, unless it passed.
        layer: The first wrong layer, if it was located.
        cause: The likely cause, if one was recognised.
        size: Size of the artifact in bytes.
        lines: Further lines: where, why, what to try.
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
        """Convert to plain values. ``layer`` and ``cause`` are left out if unknown."""
        return {key: value for key, value in asdict(self).items() if value or key not in WHEN_LOCATED}

    @property
    def name(self) -> str:
        """A name that is the same in every run."""
        return ", ".join(part for part in (self.place, self.subject) if part)

    @property
    def place(self) -> str:
        """The artifact (or model) and its target."""
        what = self.artifact or self.model
        return f"{what} on {self.target}" if self.target else what

    @property
    def what(self) -> str:
        """The subject and the deciding metric."""
        return ", ".join(dict.fromkeys(part for part in (self.subject, self.metric) if part))

    @property
    def details(self) -> tuple[str, ...]:
        """Layer, cause and file size, a line for each that is known, then the further lines."""
        found = (("layer", self.layer), ("cause", self.cause), ("file", sized(self.size)))
        return (*(f"{label}: {text}" for label, text in found if text), *self.lines)

    @property
    def bad(self) -> bool:
        """Whether the outcome is a failure or an error."""
        return self.status in ("failed", "error")


def sized(size: int | None) -> str:
    """Format a size in bytes; empty if unknown."""
    return "" if size is None else f"{size:,} bytes"


def number(value: float | None) -> str:
    """Format a measured value."""
    if value is None:
        return "-"
    return str(value) if not math.isfinite(value) else f"{value:.4g}"


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 if all passed, 1 if something failed, 2 if nothing failed but something could not be judged."""
    if any(o.status == "failed" for o in outcomes):
        return 1
    good = any(o.status == "passed" for o in outcomes)
    return 0 if good and all(o.status == "passed" for o in outcomes) else 2


def totals(outcomes: Iterable[Outcome]) -> dict[Status, int]:
    """Number of outcomes of each status."""
    found: dict[Status, int] = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
    for outcome in outcomes:
        found[outcome.status] += 1
    return found


def summary(outcomes: Sequence[Outcome]) -> str:
    """Summarize outcomes in one line: ``failed: 2 of 9 failed, 1 could not be judged``."""
    count = totals(outcomes)
    if not any(count.values()):
        return "nothing was checked"
    parts = [f"{count['failed']} of {len(outcomes)} failed"] if count["failed"] else []
    parts += [f"{count['error']} could not be judged"] if count["error"] else []
    parts += [f"{count['skipped']} not run"] if count["skipped"] else []
    if not parts:
        return f"passed: {len(outcomes)} of {len(outcomes)}"
    return f"{'failed' if count['failed'] else 'incomplete'}: {', '.join(parts)}"


def check_outcomes(report: CheckReport, model: str, sizes: Mapping[str, int]) -> list[Outcome]:
    """The outcomes of a check: one for each verdict, and one for each item that could not be judged.

    Args:
        report: The report of the check.
        model: Name of the model.
        sizes: Sizes of its artifacts in bytes, by file name.
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
    """The outcome of a step that raised an error."""
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
