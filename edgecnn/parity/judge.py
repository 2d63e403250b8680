"""Judge measurements: which limits apply, which of them are broken, and which cannot be decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecnn.bundle import Artifact
from edgecnn.parity import limits as defaults
from edgecnn.parity.best_classes import WorstSample
from edgecnn.parity.evidence import Evidence, drop_evidence, evidence_of
from edgecnn.parity.limits import METRICS, Limits
from edgecnn.parity.measured import Measured
from edgecnn.parity.statistics import mcnemar, samples_for, wilson
from edgecnn.parity.verdict import Outcome, Verdict
from edgecnn.targets.runtimes import OptionValue
from edgecnn.targets.runtimes.rounding_rules import RoundingRule

NO_LIMITS = Limits()
FILE = "file_differences"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Where an artifact ran: target name, runtime and version, options in force, and rounding rule."""

    target: str
    runtime: str
    version: str
    options: Mapping[str, OptionValue]
    rounding: RoundingRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The outcome for one limit; the fields have the meaning of the same fields of `Verdict`."""

    metric: str
    value: float
    limit: float
    outcome: Outcome
    passed: bool
    reason: str = ""
    low: float | None = None
    high: float | None = None
    needed: int | None = None


def judge(
    artifact: Artifact,
    place: RunContext,
    *,
    samples_from: str,
    reference: str,
    output: str,
    found: Measured,
    limits: Limits = NO_LIMITS,
    on_data: bool = True,
    differences: int | None = None,
) -> Verdict:
    """Judge the measurements of one output. NaN and infinite values always fail.

    Args:
        artifact: The artifact.
        place: Where it ran.
        samples_from: The origin of the samples, for the report.
        reference: The name of the reference.
        output: Name of the output.
        found: The measurements.
        limits: Limits that add to the defaults or replace them.
        on_data: Whether the samples come from a data set rather than from the few golden inputs. Limits on losses of
            accuracy or of a score apply to data sets only.
        differences: Number of differences between the artifact's file and its program; None if unknown.
    """
    rulings = _rulings(artifact, place.rounding, found, limits, on_data=on_data)
    if differences is not None:
        given = limits.given(artifact.precision, FILE)
        rulings.append(_plain_ruling(FILE, differences, defaults.FILE_LIMIT if given is None else given))
    ruling = _decisive(rulings, shown=list(_defaults(artifact, place.rounding, found))[-1])
    broken_first = sorted(rulings, key=lambda r: r.outcome != "failed")
    reason = _fault(found) or "; ".join(r.reason for r in broken_first if r.reason)
    broken = bool(_fault(found))
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
        **_metrics(found),
        float_layers=() if artifact.spec.quantization is None else artifact.spec.quantization.float_layers,
        metric=ruling.metric,
        value=ruling.value,
        value_low=ruling.low,
        value_high=ruling.high,
        limit=ruling.limit,
        limits={r.metric: r.limit for r in rulings},
        outcome="failed" if broken else ruling.outcome,
        passed=not broken and all(r.passed for r in rulings),
        samples_needed=None if broken else ruling.needed,
        reason=reason,
    )


def _metrics(found: Measured) -> dict[str, Any]:
    """The fields of `Verdict` that hold measurements."""
    d, answers = found.difference, found.answers
    pairs = found.pairs
    drop = drop_evidence(found)
    accuracy = None if pairs is None or not pairs.samples else wilson(pairs.right, pairs.samples)
    scene = found.scene if found.difference.samples else None
    return {
        "samples": d.samples,
        "max_abs_error": d.max_abs,
        "mean_abs_error": d.mean_abs,
        "relative_error": d.relative,
        "rmse": d.rmse,
        "snr_db": None if d.snr_db == math.inf else d.snr_db,
        "psnr_db": None if d.psnr_db == math.inf else d.psnr_db,
        "cosine": d.cosine,
        "nan_count": d.nans,
        "inf_count": d.infinities,
        "lsb_max": None if found.integer is None else found.integer.max_abs,
        "lsb_mean": None if found.integer is None else found.integer.mean_abs,
        "top1_agreement": found.agreement,
        "top5_agreement": d.top5_agreement if found.scores else None,
        "accuracy": found.accuracy,
        "accuracy_low": accuracy and accuracy[0],
        "accuracy_high": accuracy and accuracy[1],
        "reference_accuracy": found.reference_accuracy,
        "lost": None if pairs is None else pairs.lost,
        "gained": None if pairs is None else pairs.gained,
        "mcnemar_p": None if pairs is None else mcnemar(pairs.lost, pairs.gained),
        "score_name": "" if scene is None else scene.name,
        "score": None if scene is None else scene.value(),
        "reference_score": None if scene is None else scene.reference_value(),
        "drop": drop and drop.estimate.value,
        "drop_low": drop and drop.estimate.low,
        "drop_high": drop and drop.estimate.high,
        "confusion": answers.confusion(),
        "worst_samples": answers.worst or tuple(WorstSample(sample=i, error=error) for error, i in d.worst),
    }


def _fault(found: Measured) -> str:
    """The reason why the measurements fail under any limits; empty if none."""
    if not found.difference.samples:
        return "there were no samples to compare"
    if bad := found.difference.nans + found.difference.infinities:
        return f"{bad} values are NaN or infinite"
    return ""


def _decisive(rulings: Sequence[Ruling], *, shown: str) -> Ruling:
    """The ruling that decides the verdict: a broken limit, else an undecided one, else that of the default limit."""
    for outcome in ("failed", "undecided"):
        for ruling in rulings:
            if ruling.outcome == outcome:
                return ruling
    return next((r for r in rulings if r.metric == shown), rulings[0])


def _rulings(
    artifact: Artifact, rounding: RoundingRule, found: Measured, limits: Limits, *, on_data: bool
) -> list[Ruling]:
    """Rulings on the default limits, then on all other limits that were set and could be measured."""
    measured = _plain(found)
    rulings = []
    demanded = dict.fromkeys(limits.metrics(artifact.precision))
    for metric, default in {**_defaults(artifact, rounding, found), **dict.fromkeys(demanded, math.nan)}.items():
        given = limits.given(artifact.precision, metric)
        limit = default if given is None else given
        if metric in measured:
            rulings.append(_plain_ruling(metric, measured[metric], limit))
        elif (on_data or given is None) and (evidence := evidence_of(found, metric)) is not None:
            rulings.append(_sampled_ruling(metric, evidence, limit, limits.undecided))
    return rulings


def _defaults(artifact: Artifact, rounding: RoundingRule, found: Measured) -> dict[str, float]:
    """The default metrics with their limits. The last one is shown if all pass."""
    if artifact.precision == "fp32":
        return {"relative_error": defaults.FP32_LIMIT}
    if found.own is not None:
        return {"own_error": defaults.FP32_LIMIT}
    if found.integer is not None:
        quantization = artifact.spec.quantization
        if quantization is not None and quantization.exact and rounding.exact:
            return {"lsb_max": defaults.EXACT_LIMIT}
        if rounding.exact:
            return {"lsb_mean": defaults.MEAN_LIMIT}
        return {"top1_flips": defaults.FLIP_LIMIT, "lsb_mean": defaults.OTHER_MEAN_LIMIT}
    if found.pairs is not None:
        return {"accuracy_drop": defaults.DROP_LIMIT}
    if found.scene is not None:
        return {"score_drop": defaults.DROP_LIMIT}
    if found.agreement is not None:
        return {"top1_disagreement": defaults.DISAGREEMENT_LIMIT}
    return {"finite": 0.0}


def _plain(found: Measured) -> dict[str, float]:
    """Metrics that are computed exactly rather than estimated, by their names in `METRICS`."""
    d = found.difference
    values: dict[str, float] = {
        "finite": d.nans + d.infinities,
        "relative_error": d.relative,
        "max_abs_error": d.max_abs,
        "mean_abs_error": d.mean_abs,
        "rmse": d.rmse,
        "snr_db": d.snr_db,
        "psnr_db": d.psnr_db,
        "cosine": d.cosine,
    }
    if found.own is not None:
        values["own_error"] = found.own.relative
    if found.integer is not None:
        values |= {"lsb_max": found.integer.max_abs, "lsb_mean": found.integer.mean_abs}
        values |= {"top1_flips": found.flips} if found.scores else {}
    return values


def _plain_ruling(metric: str, value: float, limit: float) -> Ruling:
    passed = METRICS[metric].keeps(value, limit) if metric in METRICS else value <= limit
    reason = "" if passed else f"{_words(metric)} is {value:.3g}, the limit is {limit:.3g}"
    outcome: Outcome = "passed" if passed else "failed"
    return Ruling(metric=metric, value=value, limit=limit, outcome=outcome, passed=passed, reason=reason)


def _sampled_ruling(metric: str, evidence: Evidence, limit: float, undecided: str) -> Ruling:
    """Rule on an estimate: undecided if the limit lies between its bounds."""
    e = evidence.estimate
    outcome: Outcome = "failed" if e.low > limit else "passed" if e.high <= limit else "undecided"
    needed = samples_for(evidence.statistic(limit), evidence.samples) if outcome == "undecided" else None
    within = e.value <= limit
    counts = {"passed": True, "failed": False}.get(outcome, {"estimate": within, "fail": False}.get(undecided, True))
    reason = ""
    if outcome == "failed":
        reason = (
            f"{_words(metric)} is {e.value:.2%}, at least {e.low:.2%} with 95 % confidence; the limit is {limit:.2%}"
        )
    elif outcome == "undecided":
        reason = (
            f"{evidence.samples:,} samples are too few to tell whether {_words(metric)} is within {limit:.2%}: it is"
            f" {e.value:.2%}, from {e.low:.2%} to {e.high:.2%} (95 % bounds); {_wanted(needed)};"
            f" counted as {'passed' if counts else 'failed'}: {_why(undecided, within=within)}"
        )
    return Ruling(
        metric=metric,
        value=e.value,
        limit=limit,
        outcome=outcome,
        passed=counts,
        reason=reason,
        low=e.low,
        high=e.high,
        needed=needed,
    )


def _wanted(needed: int | None) -> str:
    if needed is None:
        return "the estimate is so close to the limit that no practical number of samples would decide"
    return f"about {float(f'{needed:.2g}'):,.0f} such samples would decide"


def _why(undecided: str, *, within: bool) -> str:
    if undecided == "estimate":
        return f"the estimate is {'within' if within else 'above'} the limit"
    return f"--undecided {undecided}"


def _words(metric: str) -> str:
    return METRICS[metric].words if metric in METRICS else metric
