"""The results of a check: verdicts with all measurements, what could not be judged, and the report of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from edgecnn.errors import EdgecnnError
from edgecnn.parity.baseline_samples import BaselineSamples
from edgecnn.parity.best_classes import WorstSample
from edgecnn.targets.runtimes import OptionValue

SCHEMA = 2
WHEN_LOCATED = ("layer", "cause")
"""Fields that are written only if they are known."""
Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one output of one artifact on one runtime, over one set of samples.

    Shares range from 0 to 1. Values that are undefined or unknown are None.

    Attributes:
        artifact: The artifact's file name.
        precision: Its precision.
        target: The target it ran on, in the notation of `edgecnn.targets.names`.
        runtime: The runtime's name.
        runtime_version: The runtime's version.
        options: All runtime options in force.
        samples_from: The origin of the samples: the golden inputs, or a data set.
        reference: The reference that outputs are compared with.
        output: The output's name.
        samples: Number of samples.
        max_abs_error: Largest absolute difference from the float reference.
        mean_abs_error: Mean absolute difference.
        relative_error: Largest absolute difference as a share of the reference's range.
        rmse: Root of the mean squared difference.
        snr_db: Energy of the reference over that of the difference, in dB; None if there is no difference.
        psnr_db: Square of the reference's range over the mean squared difference, in dB; None without a difference.
        cosine: Cosine of the angle between output and reference.
        nan_count: Values of the output that are NaN.
        inf_count: Values of the output that are infinite.
        lsb_max: int8: largest difference from the integer reference, in steps of the output; None without one.
        lsb_mean: int8: mean difference from the integer reference, in steps of the output; None without one.
        top1_agreement: Share of samples with the reference's best class; None if the output is not a row of class
            scores.
        top5_agreement: Share of samples with the reference's best class among the five best; None for five classes or
            fewer.
        accuracy: Share of samples with the right class; None without labels.
        accuracy_low: Lower end of the 95 % interval of the accuracy (Wilson's).
        accuracy_high: Upper end of that interval.
        reference_accuracy: Accuracy of the reference.
        lost: Samples that the reference gets right and the artifact does not.
        gained: Samples that the artifact gets right and the reference does not.
        mcnemar_p: Exact two-sided p-value of McNemar's test on ``lost`` and ``gained``.
        score_name: ``F1`` of centres or ``mIoU`` if the data has objects or masks; else empty.
        score: Score of the artifact.
        reference_score: Score of the reference.
        drop: Loss of accuracy, or of the score.
        drop_low: Lower bound of the loss, with 95 % confidence.
        drop_high: Upper bound of the loss, with 95 % confidence.
        confusion: With labels: non-zero cells of the confusion matrix as true class, artifact's class, samples.
        worst_samples: At most five samples: those with another best class and the largest margin, else those with the
            largest errors.
        float_layers: Layers of an int8 artifact that its recipe left in float; all other layers compute in integers.
        metric: The metric that decides the verdict: a name in `edgecnn.parity.limits.METRICS`, or ``finite``.
        value: Value of that metric.
        value_low: Lower bound of the value, if it is an estimate from samples.
        value_high: Upper bound of the value, if it is an estimate from samples.
        limit: The largest value that passes; for ``snr_db``, ``psnr_db`` and ``cosine`` the smallest.
        limits: All limits that were applied, by metric.
        outcome: ``passed``, ``failed``, or ``undecided``: the samples are too few to tell.
        passed: Whether the verdict counts as passed; for ``undecided``, ``--undecided`` decides.
        samples_needed: For ``undecided``: the approximate number of samples that would decide; None if no practical
            number would.
        reason: Why the verdict failed or is undecided; empty if it passed.
        worse: Metrics that are worse than in the baseline, by more than their noise.
        layer: The first layer that breaks its rule, if it was located; else empty.
        cause: The likely cause, in words, if one was recognised; else empty.
    """

    artifact: str
    precision: str
    target: str
    runtime: str
    runtime_version: str
    options: Mapping[str, OptionValue]
    samples_from: str
    reference: str
    output: str
    samples: int
    max_abs_error: float
    mean_abs_error: float
    relative_error: float
    rmse: float
    snr_db: float | None
    psnr_db: float | None
    cosine: float
    nan_count: int
    inf_count: int
    lsb_max: float | None
    lsb_mean: float | None
    top1_agreement: float | None
    top5_agreement: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    reference_accuracy: float | None
    lost: int | None
    gained: int | None
    mcnemar_p: float | None
    score_name: str
    score: float | None
    reference_score: float | None
    drop: float | None
    drop_low: float | None
    drop_high: float | None
    confusion: tuple[tuple[int, int, int], ...]
    worst_samples: tuple[WorstSample, ...]
    float_layers: tuple[str, ...]
    metric: str
    value: float
    value_low: float | None
    value_high: float | None
    limit: float
    limits: Mapping[str, float]
    outcome: Outcome
    passed: bool
    samples_needed: int | None
    reason: str
    worse: tuple[str, ...] = ()
    layer: str = ""
    cause: str = ""

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values. ``layer`` and ``cause`` are left out if unknown."""
        return {key: value for key, value in asdict(self).items() if value or key not in WHEN_LOCATED}

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identifies the verdict across runs: artifact, target, samples and output."""
        return self.artifact, self.target, self.samples_from, self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """Something that could not be judged, and why: an artifact on a target, or a whole target if ``artifact`` is empty.

    If ``target`` is empty, it is a limit or an entry of a baseline that matches no artifact.
    """

    target: str
    artifact: str
    error: EdgecnnError

    def as_json(self) -> dict[str, str]:
        """Convert to plain texts."""
        e = self.error
        words = {"message": e.message, "where": e.where, "why": e.why, "try": e.hint}
        return {"target": self.target, "artifact": self.artifact, **words}


class Finding(Protocol):
    """What a report holds beside its verdicts, made by packages and modules that know `CheckReport`.

    It is a `edgecnn.locate.location.Location` or a `edgecnn.parity.plain_session.PlainSession`.
    """

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values for ``--json``."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of a check, in the order of artifacts, targets and outputs.

    Attributes:
        verdicts: The verdicts.
        unjudged: What could not be judged: a host is unreachable, a runtime crashes, a limit matches no artifact.
        notes: What was skipped, and why.
        baseline_samples: Answers to each sample, by `Verdict.key`, for baselines.
        locations: The origins of failures, if they were located.
        plain_sessions: What int8 artifacts compute in sessions without protection from saturation, where the processor
            saturates; the notes say it too.
        idle: Limits, by precision and metric, that are shared with other checks and match no artifact in this one.
    """

    verdicts: tuple[Verdict, ...]
    unjudged: tuple[Unjudged, ...] = ()
    notes: tuple[str, ...] = ()
    baseline_samples: Mapping[tuple[str, str, str, str], BaselineSamples] = field(
        default_factory=dict, repr=False, compare=False
    )
    locations: tuple[Finding, ...] = ()
    plain_sessions: tuple[Finding, ...] = ()
    idle: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there are verdicts, all of them passed, and everything could be judged."""
        return bool(self.verdicts) and not self.unjudged and all(v.passed for v in self.verdicts)

    @property
    def exit_code(self) -> int:
        """0 if the check passed, 1 if an artifact is wrong, 2 if none is wrong but something could not be judged."""
        if any(not v.passed for v in self.verdicts):
            return 1
        return 0 if self.passed else 2

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values for ``--json``."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "verdicts": [v.as_json() for v in self.verdicts],
            "unjudged": [u.as_json() for u in self.unjudged],
            "notes": list(self.notes),
            "locations": [found.as_json() for found in self.locations],
            "plain_sessions": [found.as_json() for found in self.plain_sessions],
        }
