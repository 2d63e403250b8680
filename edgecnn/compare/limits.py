"""What ``--limit METRIC=VALUE`` demands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecnn.errors import UsageError
from edgecnn.parity.metrics import Difference

AT_MOST, AT_LEAST = "at most", "at least"


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is read from a difference, and which side of a limit is the good one."""

    read: Callable[[Difference], float | None]
    side: str = AT_MOST


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "max_abs_error": Metric(lambda d: d.max_abs),
        "mean_abs_error": Metric(lambda d: d.mean_abs),
        "rmse": Metric(lambda d: d.rmse),
        "relative_error": Metric(lambda d: d.relative),
        "snr_db": Metric(lambda d: d.snr_db, AT_LEAST),
        "psnr_db": Metric(lambda d: d.psnr_db, AT_LEAST),
        "cosine": Metric(lambda d: d.cosine, AT_LEAST),
        "top1_disagreement": Metric(lambda d: _rest(d.top1_agreement)),
        "top5_disagreement": Metric(lambda d: _rest(d.top5_agreement)),
        "nans": Metric(lambda d: d.nans),
        "infinities": Metric(lambda d: d.infinities),
    }
)
"""What is measured of B's outputs against A's, by the names that ``edgecnn check`` has for the same."""


def parse_limit(text: str) -> tuple[str, float]:
    """A metric's name and its limit.

    Raises:
        UsageError: if it is no ``METRIC=VALUE``.
    """
    name, _, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if name not in METRICS or math.isnan(limit):
        raise UsageError(
            f"--limit {text} is not METRIC=VALUE", hint=f"METRIC is one of {', '.join(METRICS)}, VALUE a number"
        )
    return name, limit


def measured(difference: Difference) -> dict[str, float | None]:
    """All metrics by name; None where one does not apply."""
    return {name: metric.read(difference) for name, metric in METRICS.items()}


def broken(metrics: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    """Which limits do not hold, in words; empty where all do.

    NaN breaks every limit, and so does a metric that does not apply to the output.
    """
    reasons = []
    for name, limit in limits.items():
        value = metrics[name]
        if value is None:
            reasons.append(f"{name} is not known of an output that is no row of {'six ' * (name[3] == '5')}scores")
        elif not (value <= limit if METRICS[name].side == AT_MOST else value >= limit):
            reasons.append(f"{name} is {value:.4g}, the limit is {METRICS[name].side} {limit:.4g}")
    return "; ".join(reasons)
