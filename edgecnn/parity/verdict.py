"""What a check comes to: verdicts with all that was measured, what could not be judged, and the report of both."""

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
"""What is told only where it is known."""
Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One output of one artifact on one runtime, over one set of samples.

    Shares go from 0 to 1. What is undefined for the output, or was not known, is None.

    Attributes:
        artifact: The artifact's file name.
        precision: Its precision.
        target: Where it ran, as `edgecnn.targets.names` spells it.
        runtime: The runtime's name.
        runtime_version: And its version.
        options: All options in force.
        samples_from: What the samples are: the golden inputs, or a data set.
        reference: What they are compared with.
        output: The output's name.
        samples: How many samples.
        max_abs_error: Largest absolute difference from the float reference.
        mean_abs_error: Mean absolute difference.
        relative_error: The largest as a share of the reference's range.
        rmse: Root of the mean squared difference.
        snr_db: Energy of the reference over that of the difference, in dB; None where there is no difference.
        psnr_db: Square of the reference's range over the mean squared difference, in dB; None likewise.
        cosine: Cosine of the angle between output and reference.
        nan_count: Values of the output that are NaN.
        inf_count: Values of the output that are infinite.
        lsb_max: int8: largest difference from the integer reference, in steps of the output; None without one.
        lsb_mean: The mean of that.
        top1_agreement: Share of samples with the reference's best class; None where the output is no row of scores.
        top5_agreement: Share of samples with the reference's best class among the five best; None up to five classes.
        accuracy: Share of samples with the right class; None without labels.
        accuracy_low: Lower end of its 95 % interval (Wilson's).
        accuracy_high: Upper end.
        reference_accuracy: The reference's accuracy.
        lost: Samples that the reference gets right and the artifact does not.
        gained: Samples that the artifact gets right and the reference does not.
        mcnemar_p: The exact two-sided p that both are right equally often, from those two.
        score_name: ``F1`` of centres or ``mIoU`` where the data says what is where in an image; else empty.
        score: The artifact's.
        reference_score: The reference's.
        drop: What is lost of accuracy, or of the score.
        drop_low: Lower bound of the loss, which holds with 95 %.
        drop_high: Upper bound, which does too.
        confusion: With labels: true class, artifact's class, and samples of that kind; without zeros.
        worst_samples: At most five: those with another best class that the artifact prefers most, else those with the
            largest errors.
        float_layers: Layers of an int8 artifact that its recipe left in float; all others are integers.
        metric: What the verdict rests on: a name in `edgecnn.parity.limits.METRICS`, or ``finite``.
        value: Its value.
        value_low: Its lower bound, where it is an estimate from samples.
        value_high: Its upper bound.
        limit: The largest value that passes; for ``snr_db``, ``psnr_db`` and ``cosine`` the smallest.
        limits: All limits that it was held to, by metric.
        outcome: ``passed``, ``failed``, or ``undecided``: the samples are too few to tell.
        passed: What counts: for ``undecided`` as ``--undecided`` says.
        samples_needed: For ``undecided``: about so many samples would decide; None where no reasonable number would.
        reason: Why it failed or is undecided; empty where it passed.
        worse: Metrics that are worse than in the baseline, by more than their noise.
        layer: The first layer that breaks its rule, where that was looked for and found; else empty.
        cause: The likely cause, in words, where one was recognised; else empty.
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
        """As plain values; ``layer`` and ``cause`` are there only where they are known."""
        return {key: value for key, value in asdict(self).items() if value or key not in WHEN_LOCATED}

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same verdict in another run: artifact, target, samples and output."""
        return self.artifact, self.target, self.samples_from, self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """What could not be judged: an artifact on a target, or without an artifact's name all of a target; and why.

    Without a target it is a demand that nothing was measured for: a limit, or an entry of a baseline.
    """

    target: str
    artifact: str
    error: EdgecnnError

    def as_json(self) -> dict[str, str]:
        """The same in texts."""
        e = self.error
        words = {"message": e.message, "where": e.where, "why": e.why, "try": e.hint}
        return {"target": self.target, "artifact": self.artifact, **words}


class Located(Protocol):
    """Where an artifact goes wrong: `edgecnn.locate.location.Location`."""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of a check, in the order of artifacts, targets and outputs.

    Attributes:
        verdicts: On what could be asked.
        unjudged: What could not: a host is not reached, a runtime crashes, a limit has nothing to be held to.
        notes: What was passed over, and why.
        kept: What each sample was answered, by `Verdict.key`: for baselines.
        locations: Where failures come from, where that was looked for.
        idle: Limits, by precision and metric, that stand for other checks too and that nothing here was held to.
    """

    verdicts: tuple[Verdict, ...]
    unjudged: tuple[Unjudged, ...] = ()
    notes: tuple[str, ...] = ()
    baseline_samples: Mapping[tuple[str, str, str, str], BaselineSamples] = field(
        default_factory=dict, repr=False, compare=False
    )
    locations: tuple[Located, ...] = ()
    idle: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there are verdicts, all of them pass, and all could be judged."""
        return bool(self.verdicts) and not self.unjudged and all(v.passed for v in self.verdicts)

    @property
    def exit_code(self) -> int:
        """0 where it passed, 1 where an artifact is wrong, 2 where none is but something could not be judged."""
        if any(not v.passed for v in self.verdicts):
            return 1
        return 0 if self.passed else 2

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: schema, overall verdict, verdicts, what could not be judged, notes."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "verdicts": [v.as_json() for v in self.verdicts],
            "unjudged": [u.as_json() for u in self.unjudged],
            "notes": list(self.notes),
            "locations": [found.as_json() for found in self.locations],
        }
