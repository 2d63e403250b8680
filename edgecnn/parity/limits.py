"""Limits by metric and precision, their defaults, and how to treat undecided verdicts."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from edgecnn.errors import UsageError
from edgecnn.export.formats import PRECISIONS

FP32_LIMIT = 1e-5
"""Largest error of an fp32 artifact, as a share of the output's range."""
EXACT_LIMIT = 0.0
"""Largest difference from the integer reference, in LSB, where all runtimes compute every operator identically."""
MEAN_LIMIT = 0.5
"""Mean difference from the integer reference, in LSB, where operators may differ by 1 and the difference propagates."""
OTHER_MEAN_LIMIT = 1.0
"""Mean difference from the integer reference, in LSB, where the runtime's rounding rule is only approximated."""
FLIP_LIMIT = 0.0
"""Number of samples that may have another best class than the integer reference, where the runtime's rounding rule is
only approximated."""
DROP_LIMIT = 0.01
"""Loss of accuracy, F1 or mIoU against the float reference, on a labelled data set."""
FILE_LIMIT = 0.0
"""Constants, parameters, options and operators of a file that may differ from its program."""
DISAGREEMENT_LIMIT = 0.05
"""Share of samples that may have another best class than the float reference, on a data set without labels."""

UNDECIDED = ("estimate", "fail", "pass")
"""How to treat a verdict for which there are too few samples: the estimate decides, or it fails, or it passes."""
EVERY = ""
"""The precision of limits that apply to all precisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric that a limit can be set on.

    Attributes:
        words: The metric in words, for reasons.
        least: Whether the limit is the smallest value that passes, not the largest.
        share: Whether the metric is a share, from 0 to 1.
        sampled: Whether the metric is estimated from samples of a data set, with confidence bounds.
    """

    words: str
    least: bool = False
    share: bool = False
    sampled: bool = False

    def keeps(self, value: float, limit: float) -> bool:
        """Whether a value is within a limit. NaN never is."""
        return value >= limit if self.least else value <= limit


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "relative_error": Metric(words="the largest error as a share of the range"),
        "max_abs_error": Metric(words="the largest absolute error"),
        "mean_abs_error": Metric(words="the mean absolute error"),
        "rmse": Metric(words="the root of the mean squared error"),
        "snr_db": Metric(words="the signal-to-noise ratio in dB", least=True),
        "psnr_db": Metric(words="the peak signal-to-noise ratio in dB", least=True),
        "cosine": Metric(words="the cosine with the reference", least=True, share=True),
        "own_error": Metric(words="the error against its own rounded weights, as a share of the range,"),
        "lsb_max": Metric(words="the largest difference from the integer reference, in LSB,"),
        "lsb_mean": Metric(words="the mean difference from the integer reference, in LSB,"),
        "top1_flips": Metric(
            words="the number of samples with another best class than the integer reference, not by a near tie,"
        ),
        "file_differences": Metric(
            words="the number of constants, parameters, options and operators in the file that are not its program's"
        ),
        "accuracy_drop": Metric(words="the loss of accuracy", share=True, sampled=True),
        "score_drop": Metric(words="the loss of F1 or mIoU", share=True, sampled=True),
        "top1_disagreement": Metric(words="the share of samples with another best class", share=True, sampled=True),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits that replace the defaults or add to them.

    A limit replaces only the default of the same metric: with ``int8:lsb_mean=0.7``, ``lsb_max`` must still be 0 where
    the rule is exact. A limit on a metric without a default is added.

    Attributes:
        values: Limits by precision (or `EVERY`) and metric. A limit on a named precision overrides `EVERY`.
        undecided: One of `UNDECIDED`.
        shared: Keys of ``values`` that apply to several checks. Such a limit must match an artifact in at least one of
            them. Any other limit that matches no artifact is an error, since it would pass for ever.
    """

    values: Mapping[tuple[str, str], float] = field(default_factory=lambda: MappingProxyType({}))
    undecided: str = "estimate"
    shared: frozenset[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        if self.undecided not in UNDECIDED:
            raise UsageError(f"undecided {self.undecided!r} is not known", hint=f"one of: {', '.join(UNDECIDED)}")
        for (precision, metric), value in self.values.items():
            _check(precision, metric, value, f"{precision}:{metric}" if precision else metric)

    @classmethod
    def parse(cls, texts: Iterable[str], *, undecided: str = "estimate") -> Limits:
        """Parse ``METRIC=NUMBER`` or ``PRECISION:METRIC=NUMBER``, the form of ``--limit``.

        Raises:
            UsageError: if a text has another form, a name is unknown, or a limit is given twice.
        """
        values: dict[tuple[str, str], float] = {}
        for text in texts:
            name, _, number = text.partition("=")
            precision, _, metric = name.rpartition(":")
            key = (precision.strip(), metric.strip())
            try:
                value = float(number)
            except ValueError:
                raise UsageError(
                    f"--limit {text} is not METRIC=NUMBER or PRECISION:METRIC=NUMBER",
                    hint="--limit accuracy_drop=0.02, or --limit int8:lsb_mean=0.7",
                ) from None
            _check(*key, value, f"--limit {text}")
            if key in values:
                raise UsageError(f"--limit {name.strip()} is given twice", hint="once")
            values[key] = value
        return cls(values=MappingProxyType(values), undecided=undecided)

    @classmethod
    def of(cls, table: Mapping[str, Any], *, where: str = "", undecided: str = "estimate") -> Limits:
        """Read limits from a TOML table: metrics for all precisions, and a subtable of metrics for each precision.

        Example: ``{"accuracy_drop": 0.02, "int8": {"lsb_mean": 0.7}}``.

        Args:
            table: The table.
            where: The file, for messages.
            undecided: One of `UNDECIDED`.

        Raises:
            UsageError: if a name is unknown or a value is not a number.
        """
        values: dict[tuple[str, str], float] = {}
        for name, value in table.items():
            inner = value.items() if isinstance(value, Mapping) else [("", value)]
            for metric, number in inner:
                key = (name, metric) if isinstance(value, Mapping) else (EVERY, name)
                label = ".".join(part for part in key if part)
                if isinstance(number, bool) or not isinstance(number, int | float):
                    raise UsageError(f"limit {label} is {number!r}, not a number", where=where)
                _check(*key, float(number), f"limit {label}", where=where)
                values[key] = float(number)
        return cls(values=MappingProxyType(values), undecided=undecided)

    def updated(self, other: Limits) -> Limits:
        """These limits, updated with another's, whose ``undecided`` applies."""
        shared = frozenset(self.shared - set(other.values) | other.shared)
        return replace(other, values=MappingProxyType({**self.values, **other.values}), shared=shared)

    def for_all(self) -> Limits:
        """These limits with all of them marked as `shared` among several checks."""
        return replace(self, shared=frozenset(self.values))

    def given(self, precision: str, metric: str) -> float | None:
        """The limit on a metric of a precision; None if none was set."""
        return self.values.get((precision, metric), self.values.get((EVERY, metric)))

    def metrics(self, precision: str) -> tuple[str, ...]:
        """The metrics with a limit for a precision, in the order of `METRICS`."""
        return tuple(m for m in METRICS if self.given(precision, m) is not None)

    def unmeasured(self, measured: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Limits, by precision and metric, that matched no artifact.

        Args:
            measured: Pairs of precision and metric that limits were applied to.
        """
        pairs = set(measured)
        everywhere = {metric for _, metric in pairs}
        return tuple(
            (precision, metric)
            for precision, metric in self.values
            if ((precision, metric) not in pairs if precision else metric not in everywhere)
        )


def idle_limit(precision: str, metric: str) -> UsageError:
    """The error for a limit that matched no artifact."""
    why, hint = "it was measured for no artifact", "remove it; docs/check.md says what is measured"
    if METRICS[metric].sampled:
        why = "it is measured on a data set, not on golden inputs"
        hint = "--data DATA, or data in edgecnn.toml; accuracy_drop needs labels"
    name = f"{precision}:{metric}" if precision else metric
    return UsageError(f"the limit {name} matches no artifact", why=why, hint=hint)


def _check(precision: str, metric: str, value: float, label: str, *, where: str = "") -> None:
    """Refuse unknown names and meaningless values."""
    if precision not in (EVERY, *PRECISIONS):
        known = ", ".join(PRECISIONS)
        raise UsageError(f"{label}: there is no precision {precision!r}", where=where, hint=f"one of: {known}")
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, n=1)
        hint = f"{near[0]}; all: {', '.join(METRICS)}" if near else f"one of: {', '.join(METRICS)}"
        raise UsageError(f"{label}: there is no metric {metric!r}", where=where, hint=hint)
    check_value(METRICS[metric], value, label, where=where)


def check_value(metric: Metric, value: float, label: str, *, where: str = "") -> None:
    """Refuse a limit that is meaningless for its metric.

    Raises:
        UsageError: if it is not finite, is negative where smaller is better, or is a share above 1.
    """
    if not math.isfinite(value) or (value < 0 and not metric.least):
        raise UsageError(f"{label}: {value:g} is not a valid limit", where=where, hint="a number of at least 0")
    if metric.share and value > 1:
        raise UsageError(f"{label}: {value:g} is more than 1", where=where, hint="a share from 0 to 1")
