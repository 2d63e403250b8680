"""What is decided from what was measured, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.bundle import Artifact
from edgecnn.parity.metrics import Measured

FP32_LIMIT = 1e-5
"""Largest error of an fp32 artifact, as a share of the output's range."""
EXACT_LIMIT = 0.0
"""Largest difference from the integer reference, in LSB, where every operator's rule is the same in all runtimes."""
MEAN_LIMIT = 0.5
"""Mean difference from the integer reference, in LSB, where a rule may differ by 1 and the difference spreads."""
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
        runtime: The runtime's name.
        runtime_version: And its version.
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
            artifact's own rounded weights), ``lsb_max``, ``lsb_mean``, ``accuracy_drop``, ``top1_disagreement`` or
            ``finite``.
        value: Its value.
        limit: The largest value that passes.
        passed: The verdict.
        reason: Why it failed; empty where it passed.
    """

    artifact: str
    precision: str
    runtime: str
    runtime_version: str
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


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of a check, in the order of artifacts, runtimes and outputs."""

    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether there are verdicts, and all of them pass."""
        return bool(self.verdicts) and all(v.passed for v in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: schema, overall verdict, verdicts."""
        return {"schema": 1, "passed": self.passed, "verdicts": [asdict(v) for v in self.verdicts]}


def judge(
    artifact: Artifact, runtime: str, version: str, *, samples_from: str, reference: str, output: str, found: Measured
) -> Verdict:
    """The verdict on what was measured. NaN and infinities fail whatever the limit."""
    metric, value, limit = _rule(artifact, found)
    reason = _reason(found, metric, value, limit)
    return Verdict(
        artifact=artifact.path.name,
        precision=artifact.precision,
        runtime=runtime,
        runtime_version=version,
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


def _rule(artifact: Artifact, found: Measured) -> tuple[str, float, float]:
    """The metric that decides, its value, and its limit."""
    if artifact.precision == "fp32":
        return "relative_error", found.difference.relative, FP32_LIMIT
    if found.own is not None:
        return "own_error", found.own.relative, FP32_LIMIT
    if found.integer is not None:
        quantization = artifact.spec.quantization
        if quantization is not None and quantization.exact:
            return "lsb_max", found.integer.max_abs, EXACT_LIMIT
        return "lsb_mean", found.integer.mean_abs, MEAN_LIMIT
    if found.accuracy is not None and found.reference_accuracy is not None:
        return "accuracy_drop", found.reference_accuracy - found.accuracy, DROP_LIMIT
    if found.agreement is not None:
        return "top1_disagreement", 1 - found.agreement, 1 - AGREEMENT_LIMIT
    return "finite", float(found.difference.nans), 0.0


def _reason(found: Measured, metric: str, value: float, limit: float) -> str:
    if not found.difference.samples:
        return "there were no samples to compare"
    if found.difference.nans:
        return f"{found.difference.nans} values are NaN or infinite"
    return "" if value <= limit else _excess(metric, value, limit)


def _excess(metric: str, value: float, limit: float) -> str:
    name = {
        "relative_error": "the error as a share of the range",
        "own_error": "the error against its own rounded weights, as a share of the range,",
        "lsb_max": "the largest difference from the integer reference, in LSB,",
        "lsb_mean": "the mean difference from the integer reference, in LSB,",
        "accuracy_drop": "the loss of accuracy",
        "top1_disagreement": "the share of samples with another best class",
    }.get(metric, metric)
    return f"{name} is {value:.2g}, the limit is {limit:.2g}"
