"""What the samples of a data set say of a share, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgecnn.parity.measured import Measured
from edgecnn.parity.statistics import Estimate, paired_drop, score_statistic, share


@dataclass(frozen=True, slots=True)
class Evidence:
    """What samples say of a share.

    Attributes:
        estimate: With its bounds.
        samples: How many.
        statistic: The distance from a limit over its standard error.
    """

    estimate: Estimate
    samples: int
    statistic: Callable[[float], float]


def drop_evidence(found: Measured) -> Evidence | None:
    """The loss of accuracy, or of a score."""
    return evidence_of(found, "accuracy_drop") or evidence_of(found, "score_drop")


def evidence_of(found: Measured, metric: str) -> Evidence | None:
    """What the samples say of a metric; None where they say nothing."""
    n = found.difference.samples
    if not n:
        return None
    if metric == "accuracy_drop" and found.pairs is not None:
        lost, gained = found.pairs.lost, found.pairs.gained
        return Evidence(paired_drop(lost, gained, n), n, lambda limit: score_statistic(lost, gained, n, limit))
    if metric == "score_drop" and found.scene is not None:
        estimate, error = found.scene_drop()
        return Evidence(estimate, n, lambda limit: (estimate.value - limit) / error if error else math.inf)
    if metric == "top1_disagreement" and found.agreement is not None:
        others = n - found.difference.agreed
        return Evidence(share(others, n), n, lambda p: (others / n - p) / math.sqrt(max(p * (1 - p), 1 / n**2) / n))
    return None
