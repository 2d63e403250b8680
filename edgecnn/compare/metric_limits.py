"""Limits on one file's outputs against another's (``--limit METRIC=VALUE``), by the metrics of a check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgecnn.errors import UsageError
from edgecnn.parity import limits as parity
from edgecnn.parity.limits import Metric, check_value
from edgecnn.parity.metrics import Difference


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


READ: Mapping[str, Callable[[Difference], float | None]] = MappingProxyType(
    {
        "max_abs_error": lambda d: d.max_abs,
        "mean_abs_error": lambda d: d.mean_abs,
        "rmse": lambda d: d.rmse,
        "relative_error": lambda d: d.relative,
        "snr_db": lambda d: d.snr_db,
        "psnr_db": lambda d: d.psnr_db,
        "cosine": lambda d: d.cosine,
        "top1_disagreement": lambda d: _rest(d.top1_agreement),
        "top5_disagreement": lambda d: _rest(d.top5_agreement),
        "nans": lambda d: d.nans,
        "infinities": lambda d: d.infinities,
    }
)
"""How each metric is read from the difference of B's outputs to A's."""
_OWN: Mapping[str, Metric] = MappingProxyType(
    {
        "top5_disagreement": Metric(
            words="the share of samples without the best class among the five best", share=True
        ),
        "nans": Metric(words="the number of values that are NaN"),
        "infinities": Metric(words="the number of values that are infinite"),
    }
)
"""Metrics that a check has no limits on: NaN and infinite values fail there whatever the limits."""
METRICS: Mapping[str, Metric] = MappingProxyType({name: _OWN.get(name) or parity.METRICS[name] for name in READ})
"""The metrics by name; names that ``edgecnn check`` has too mean the same metric there."""


def parse_limit(text: str) -> tuple[str, float]:
    """A metric's name and its limit.

    Raises:
        UsageError: if it is no ``METRIC=VALUE``, or the value has no meaning.
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
    check_value(METRICS[name], limit, f"--limit {text}")
    return name, limit


def measured(difference: Difference) -> dict[str, float | None]:
    """All metrics by name; None where one does not apply."""
    return {name: read(difference) for name, read in READ.items()}


def broken(metrics: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    """The broken limits in words; empty where all hold.

    NaN breaks every limit, and so does a metric that does not apply to the output.
    """
    reasons = []
    for name, limit in limits.items():
        value = metrics[name]
        if value is None:
            reasons.append(f"{name} is not known of an output that is no row of {'six ' * (name[3] == '5')}scores")
        elif not METRICS[name].keeps(value, limit):
            side = "at least" if METRICS[name].least else "at most"
            reasons.append(f"{name} is {value:.4g}, the limit is {side} {limit:.4g}")
    return "; ".join(reasons)
