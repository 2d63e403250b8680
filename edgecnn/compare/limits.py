"""What ``--limit METRIC=VALUE`` demands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from edgecnn.errors import UsageError
from edgecnn.parity.metrics import Difference

AT_MOST, AT_LEAST = "at most", "at least"
METRICS: Mapping[str, str] = MappingProxyType(
    {
        "max_abs": AT_MOST,
        "mean_abs": AT_MOST,
        "rmse": AT_MOST,
        "relative": AT_MOST,
        "snr_db": AT_LEAST,
        "psnr_db": AT_LEAST,
        "cosine": AT_LEAST,
        "top1_agreement": AT_LEAST,
        "top5_agreement": AT_LEAST,
        "nans": AT_MOST,
        "infinities": AT_MOST,
    }
)
"""The metrics of `edgecnn.parity.metrics.Difference`, and which side of a limit is the good one."""


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
    return {name: getattr(difference, name) for name in METRICS}


def broken(metrics: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    """Which limits do not hold, in words; empty where all do.

    NaN breaks every limit, and so does a metric that does not apply to the output.
    """
    reasons = []
    for name, limit in limits.items():
        value = metrics[name]
        if value is None:
            reasons.append(f"{name} is not known of an output that is no row of {'six ' * (name[3] == '5')}scores")
        elif not (value <= limit if METRICS[name] == AT_MOST else value >= limit):
            reasons.append(f"{name} is {value:.4g}, the limit is {METRICS[name]} {limit:.4g}")
    return "; ".join(reasons)
