"""Answers to each sample of a check, kept so that a later check can be compared sample by sample."""

from __future__ import annotations

from dataclasses import dataclass

from edgecnn.parity.best_classes import ClassIndices
from edgecnn.types import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaselineSamples:
    """The answers to the samples of one verdict.

    Attributes:
        digest: SHA-256 of the samples.
        extent: Range of the reference's output, to which rounding noise is relative.
        got: Best class of each sample; None if the output is not a row of class scores.
        expected: Best class of the reference for each sample; None if the output is not a row of class scores.
        labels: True class of each sample, if known.
        counts: Counts from which the score is computed, (samples, counts), if there is a score; see
            `edgecnn.parity.scene_scores`.
    """

    digest: str
    extent: float
    got: ClassIndices | None = None
    expected: ClassIndices | None = None
    labels: ClassIndices | None = None
    counts: Array | None = None
