"""Estimates of shares from the samples of a data set, with confidence bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgecnn.parity.measured import Measured
from edgecnn.parity.statistics import Estimate, paired_drop, score_statistic, share


@dataclass(frozen=True, slots=True)
class Evidence:
    """An estimate of a share from samples.

    Attributes:
        estimate: The estimate with its bounds.
        samples: Number of samples.
        statistic: The test statistic for a limit: the distance of the estimate from it over its standard error.
    """

    estimate: Estimate
    samples: int
    statistic: Callable[[float], float]


def drop_evidence(found: Measured) -> Evidence | None:
    """Evidence about the loss of accuracy, or of F1 or mIoU; None if neither was measured."""
    return evidence_of(found, "accuracy_drop") or evidence_of(found, "score_drop")


def evidence_of(found: Measured, metric: str) -> Evidence | None:
    """Evidence about a metric; None if the samples do not measure it."""
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
