"""Baselines: the results of an earlier check, and which metrics have become worse since, by more than their noise.

Metrics that are computed exactly may change by the rounding error of float32. Metrics that are estimated from samples
are compared sample by sample, so a baseline stores the answer to each sample, in two bytes or a few counts.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgecnn.errors import DataError, UsageError
from edgecnn.parity.baseline_samples import BaselineSamples
from edgecnn.parity.limits import METRICS
from edgecnn.parity.metrics import ROUNDING
from edgecnn.parity.scene_scores import SCORES
from edgecnn.parity.statistics import CONFIDENCE, binomial_tail, bootstrap_drop
from edgecnn.parity.verdict import CheckReport, Unjudged, Verdict
from edgecnn.types import Array

SCHEMA = 1
MAX_BYTES = 1 << 29
ERRORS = ("max_abs_error", "mean_abs_error", "rmse")
"""Metrics that rounding noise in float can change, in units of the output."""
STEPS = ("lsb_max", "lsb_mean")
"""Metrics of integer outputs, which have no noise."""
_STEP_NOISE = 1e-9
_MOST_COUNTS = 1 << 16


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One verdict of an earlier check.

    Attributes:
        artifact: The verdict's ``artifact``.
        target: The verdict's ``target``.
        samples_from: The verdict's ``samples_from``.
        output: The verdict's ``output``.
        samples: Number of samples.
        digest: SHA-256 of the samples.
        metrics: Metrics that are compared directly, by name, without those that were not measured.
        answers: Best class of each sample: uint16, little-endian, zlib, base64; empty where there are no scores.
        score_name: The score that ``counts`` belong to; empty without counts.
        counts: Counts of each sample: int32, little-endian, zlib, base64.
    """

    artifact: str
    target: str
    samples_from: str
    output: str
    samples: int
    digest: str
    metrics: dict[str, float]
    answers: str = ""
    score_name: str = ""
    counts: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identifies the verdict, as `Verdict.key` does."""
        return self.artifact, self.target, self.samples_from, self.output


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The entries of an earlier check, and the file they come from."""

    entries: Mapping[tuple[str, str, str, str], Entry]
    where: str = ""


@dataclass(frozen=True, slots=True)
class WorseMetric:
    """A metric that is worse than in the baseline: its name, both values, and a sentence for the reader."""

    metric: str
    value: float
    before: float
    text: str


def baseline_of(report: CheckReport) -> Baseline:
    """The baseline of a check, to compare later checks with."""
    entries = {}
    for v in report.verdicts:
        kept = report.baseline_samples[v.key]
        metrics = {name: getattr(v, name) for name in (*ERRORS, *STEPS)}
        entries[v.key] = Entry(
            artifact=v.artifact,
            target=v.target,
            samples_from=v.samples_from,
            output=v.output,
            samples=v.samples,
            digest=kept.digest,
            metrics={name: float(x) for name, x in metrics.items() if x is not None and np.isfinite(x)},
            answers="" if kept.got is None else _packed(kept.got, "<u2"),
            score_name=v.score_name,
            counts="" if kept.counts is None else _packed(kept.counts, "<i4"),
        )
    return Baseline(entries)


def save_baseline(report: CheckReport, path: str | os.PathLike[str]) -> None:
    """Write a baseline completely or not at all.

    Raises:
        DataError: if the file cannot be written.
    """
    file = Path(path)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    content = _File(schema=SCHEMA, entries=tuple(baseline_of(report).entries.values()))
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(
            f"cannot write {file}", why=error.strerror or str(error), hint="another --save-baseline"
        ) from error


def load_baseline(path: str | os.PathLike[str]) -> Baseline:
    """Read a baseline.

    Raises:
        DataError: if the file cannot be read, is not a baseline, or was written by a newer edgecnn.
    """
    file, again = Path(path), "edgecnn check BUNDLE --save-baseline FILE writes one"
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read {file}", why=error.strerror or str(error), hint=again) from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{file} is larger than {MAX_BYTES:,} bytes", hint=again)
    try:
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            why = f"its schema is {schema}, this edgecnn reads {SCHEMA}"
            raise DataError("the baseline cannot be read by this edgecnn", where=str(file), why=why, hint=again)
        entries = msgspec.json.decode(data, type=_File).entries
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError("the baseline cannot be read", where=str(file), why=str(error), hint=again) from error
    return Baseline({entry.key: entry for entry in entries}, str(file))


def against_baseline(report: CheckReport, baseline: Baseline) -> CheckReport:
    """Return the report with each verdict failed that is worse than in the baseline.

    Verdicts without an entry in the baseline are noted. Verdicts on other samples than the baseline's cannot be judged.

    Raises:
        UsageError: if report and baseline have no verdict in common.
        DataError: if the baseline contradicts itself.
    """
    if report.verdicts and not any(v.key in baseline.entries for v in report.verdicts):
        raise UsageError(
            "the baseline has no entry for anything that was checked",
            where=baseline.where,
            why=f"it has {_listed(baseline.entries)}; this check has {_listed([v.key for v in report.verdicts])}",
            hint="the baseline of this bundle, on these targets and this data",
        )
    verdicts, lost, notes = [], [], []
    for v in report.verdicts:
        entry = baseline.entries.get(v.key)
        if entry is None:
            notes.append(f"not in the baseline: {_named(v.key)}")
        elif entry.digest != report.baseline_samples[v.key].digest:
            error = UsageError(
                "the baseline was made on other samples",
                where=baseline.where,
                hint="the data and bundle of the baseline, or write a new one: --save-baseline",
            )
            lost.append(Unjudged(target=v.target, artifact=v.artifact, error=error))
        else:
            v = _compared(v, report.baseline_samples[v.key], entry, baseline.where)  # noqa: PLW2901
        verdicts.append(v)
    there = {v.key for v in report.verdicts}
    notes += [f"in the baseline, but not checked now: {_named(key)}" for key in baseline.entries if key not in there]
    return replace(report, verdicts=tuple(verdicts), unjudged=(*report.unjudged, *lost), notes=(*report.notes, *notes))


def _compared(v: Verdict, kept: BaselineSamples, entry: Entry, where: str) -> Verdict:
    worse = [*_worse_values(v, kept, entry), *_worse_answers(kept, entry, where), *_worse_score(kept, entry, where)]
    if not worse:
        return v
    first = worse[0]
    changes: dict[str, Any] = {}
    if v.outcome != "failed":  # a broken limit stays the deciding metric
        changes = {"metric": first.metric, "value": first.value, "limit": first.before}
        changes |= {"value_low": None, "value_high": None, "samples_needed": None}
    reason = "; ".join([*([v.reason] if v.reason else []), *(w.text for w in worse)])
    names = tuple(w.metric for w in worse)
    return replace(v, **changes, outcome="failed", passed=False, reason=reason, worse=names)


def _worse_values(v: Verdict, kept: BaselineSamples, entry: Entry) -> list[WorseMetric]:
    """Metrics that grew by more than float32 rounding error in the output's range."""
    found = []
    for name, before in entry.metrics.items():
        now = getattr(v, name, None)
        noise = ROUNDING * kept.extent if name in ERRORS else _STEP_NOISE
        if now is not None and not now <= before + noise:
            words = METRICS[name].words.rstrip(",")
            found.append(WorseMetric(name, now, before, f"{words} is {now:.4g}, in the baseline {before:.4g}"))
    return found


def _worse_answers(kept: BaselineSamples, entry: Entry, where: str) -> list[WorseMetric]:
    """Accuracy and agreement with the reference, where significantly more samples were lost than gained."""
    if kept.got is None or not entry.answers:
        return []
    before = _unpacked(entry.answers, "<u2", len(kept.got), where)[:, 0]
    truths = {"accuracy": kept.labels, "top1_agreement": kept.expected}
    found = []
    for name, truth in truths.items():
        if truth is None:
            continue
        then, now = before == truth, kept.got == truth
        lost, gained = int((then & ~now).sum()), int((now & ~then).sum())
        if lost > gained and binomial_tail(lost, lost + gained) <= 1 - CONFIDENCE:
            values = float(now.mean()), float(then.mean())
            words = {"accuracy": "accuracy", "top1_agreement": "agreement with the reference"}[name]
            text = (
                f"{words} is {values[0]:.2%}, in the baseline {values[1]:.2%}: {lost} samples lost and {gained} gained,"
                f" p = {binomial_tail(lost, lost + gained):.1g}"
            )
            found.append(WorseMetric(name, *values, text))
    return found


def _worse_score(kept: BaselineSamples, entry: Entry, where: str) -> list[WorseMetric]:
    """The score, where the lower bound of its loss since the baseline, resampled in pairs, is above 0."""
    if kept.counts is None or not entry.counts or entry.score_name not in SCORES:
        return []
    score = SCORES[entry.score_name]
    before = _unpacked(entry.counts, "<i4", len(kept.counts), where)
    if before.shape != kept.counts.shape:
        return []
    loss, _ = bootstrap_drop(before, kept.counts, score)
    if loss.low <= 0:
        return []
    values = float(score(kept.counts.sum(0))), float(score(before.sum(0)))
    text = f"{entry.score_name} is {values[0]:.2%}, in the baseline {values[1]:.2%}, at least {loss.low:.2%} better"
    return [WorseMetric("score", *values, text)]


def _packed(array: Array, dtype: str) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array, dtype).tobytes())).decode()


def _unpacked(text: str, dtype: str, rows: int, where: str) -> Array:
    """Decode an array of shape (rows, columns)."""
    try:
        decoder = zlib.decompressobj()
        raw = decoder.decompress(base64.b64decode(text, validate=True), rows * _MOST_COUNTS)
        if not decoder.eof:
            raise ValueError("they are cut short, or too many")
        return np.frombuffer(raw, dtype).reshape(rows, -1)
    except (ValueError, zlib.error) as error:
        raise DataError(
            "the baseline's answers cannot be read",
            where=where,
            why=str(error),
            hint="write a new one: --save-baseline",
        ) from error


def _named(key: tuple[str, str, str, str]) -> str:
    artifact, target, samples, output = key
    return f"{artifact} on {target}, {samples}, output {output}"


def _listed(keys: Any) -> str:
    names = [_named(key) for key in keys]
    return "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")
