"""What is decided from what was measured, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.bundle import Artifact
from edgecnn.errors import EdgecnnError
from edgecnn.parity.measured import Measured
from edgecnn.parity.rounding import Rounding
from edgecnn.targets.runtimes import OptionValue

FP32_LIMIT = 1e-5
"""Largest error of an fp32 artifact, as a share of the output's range."""
EXACT_LIMIT = 0.0
"""Largest difference from the integer reference, in LSB, where every operator's rule is the same in all runtimes."""
MEAN_LIMIT = 0.5
"""Mean difference from the integer reference, in LSB, where a rule may differ by 1 and the difference spreads."""
OTHER_MEAN_LIMIT = 1.0
"""The same where a runtime rounds by a rule of its own, which the integer reference describes only nearly."""
FLIP_LIMIT = 0.0
"""Samples that may have another best class than the integer reference where a runtime rounds by a rule of its own."""
DROP_LIMIT = 0.01
"""Accuracy that int8 may lose against the float reference on a labelled data set."""
AGREEMENT_LIMIT = 0.95
"""Share of samples with the float reference's best class, on a data set without labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One output of one artifact on one runtime, over one set of samples.

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
        relative_error: The same as a share of the reference's range.
        lsb_max: int8: largest difference from the integer reference, in steps of the output; None without one.
        lsb_mean: The mean of that.
        top1_agreement: Share of samples with the reference's best class; None where the output is no row of scores.
        accuracy: Share of samples with the right class; None without labels.
        reference_accuracy: The reference's.
        float_layers: Layers of an int8 artifact that its recipe left in float; all others are integers.
        metric: What the verdict rests on: ``relative_error``, ``own_error`` (against the float reference with the
            artifact's own rounded weights), ``lsb_max``, ``lsb_mean``, ``top1_flips``, ``accuracy_drop``,
            ``top1_disagreement`` or ``finite``.
        value: Its value.
        limit: The largest value that passes.
        passed: The verdict.
        reason: Why it failed; empty where it passed.
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
    relative_error: float
    lsb_max: float | None
    lsb_mean: float | None
    top1_agreement: float | None
    accuracy: float | None
    reference_accuracy: float | None
    float_layers: tuple[str, ...]
    metric: str
    value: float
    limit: float
    passed: bool
    reason: str
    layer: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """What could not be judged: an artifact on a target, or without an artifact's name all of a target; and why."""

    target: str
    artifact: str
    error: EdgecnnError

    def as_json(self) -> dict[str, str]:
        """The same in texts."""
        e = self.error
        words = {"message": e.message, "where": e.where, "why": e.why, "try": e.hint}
        return {"target": self.target, "artifact": self.artifact, **words}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of a check, in the order of artifacts, targets and outputs.

    Attributes:
        verdicts: On what could be asked.
        unjudged: What could not: a host is not reached, a runtime crashes.
        notes: What was passed over, and why.
    """

    verdicts: tuple[Verdict, ...]
    unjudged: tuple[Unjudged, ...] = ()
    notes: tuple[str, ...] = ()

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
            "schema": 1,
            "passed": self.passed,
            "verdicts": [asdict(v) for v in self.verdicts],
            "unjudged": [u.as_json() for u in self.unjudged],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an artifact ran: the target's name, its runtime and version, options in force, and how it rounds."""

    target: str
    runtime: str
    version: str
    options: Mapping[str, OptionValue]
    rounding: Rounding


def judge(
    artifact: Artifact, place: Place, *, samples_from: str, reference: str, output: str, found: Measured
) -> Verdict:
    """The verdict on what was measured. NaN and infinities fail whatever the limit."""
    metric, value, limit = _rule(artifact, place.rounding, found)
    reason = _reason(found, metric, value, limit)
    return Verdict(
        artifact=artifact.path.name,
        precision=artifact.precision,
        target=place.target,
        runtime=place.runtime,
        runtime_version=place.version,
        options=dict(place.options),
        samples_from=samples_from,
        reference=reference,
        output=output,
        samples=found.difference.samples,
        max_abs_error=found.difference.max_abs,
        relative_error=found.difference.relative,
        lsb_max=None if found.integer is None else found.integer.max_abs,
        lsb_mean=None if found.integer is None else found.integer.mean_abs,
        top1_agreement=found.agreement,
        accuracy=found.accuracy,
        reference_accuracy=found.reference_accuracy,
        float_layers=() if artifact.spec.quantization is None else artifact.spec.quantization.float_layers,
        metric=metric,
        value=value,
        limit=limit,
        passed=not reason,
        reason=reason,
    )


def _rule(artifact: Artifact, rounding: Rounding, found: Measured) -> tuple[str, float, float]:
    """The metric that decides, its value, and its limit."""
    if artifact.precision == "fp32":
        return "relative_error", found.difference.relative, FP32_LIMIT
    if found.own is not None:
        return "own_error", found.own.relative, FP32_LIMIT
    if found.integer is not None:
        quantization = artifact.spec.quantization
        if quantization is not None and quantization.exact and rounding.exact:
            return "lsb_max", found.integer.max_abs, EXACT_LIMIT
        if rounding.exact:
            return "lsb_mean", found.integer.mean_abs, MEAN_LIMIT
        if found.flips > FLIP_LIMIT:
            return "top1_flips", found.flips, FLIP_LIMIT
        return "lsb_mean", found.integer.mean_abs, OTHER_MEAN_LIMIT
    if found.accuracy is not None and found.reference_accuracy is not None:
        return "accuracy_drop", found.reference_accuracy - found.accuracy, DROP_LIMIT
    if found.agreement is not None:
        return "top1_disagreement", 1 - found.agreement, 1 - AGREEMENT_LIMIT
    return "finite", float(found.difference.nans + found.difference.infinities), 0.0


def _reason(found: Measured, metric: str, value: float, limit: float) -> str:
    if not found.difference.samples:
        return "there were no samples to compare"
    if bad := found.difference.nans + found.difference.infinities:
        return f"{bad} values are NaN or infinite"
    return "" if value <= limit else _excess(metric, value, limit)


def _excess(metric: str, value: float, limit: float) -> str:
    name = {
        "relative_error": "the error as a share of the range",
        "own_error": "the error against its own rounded weights, as a share of the range,",
        "lsb_max": "the largest difference from the integer reference, in LSB,",
        "lsb_mean": "the mean difference from the integer reference, in LSB,",
        "top1_flips": "the number of samples with another best class than the integer reference, not by a near tie,",
        "accuracy_drop": "the loss of accuracy",
        "top1_disagreement": "the share of samples with another best class",
    }.get(metric, metric)
    return f"{name} is {value:.2g}, the limit is {limit:.2g}"
