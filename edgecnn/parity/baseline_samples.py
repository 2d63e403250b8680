"""What a check keeps of each sample, so that a later one can be compared with it in pairs."""

from __future__ import annotations

from dataclasses import dataclass

from edgecnn.parity.answers import Classes
from edgecnn.types import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """What was said to the samples of a verdict.

    Attributes:
        digest: Of the samples themselves.
        extent: Range of the reference's output, by which float noise is judged.
        got: Best class of each sample; None where the output is no row of scores.
        expected: The reference's.
        labels: The true classes, where they are known.
        counts: (samples, counts): what a score is made of, where there is one; see `edgecnn.parity.scenes`.
    """

    digest: str
    extent: float
    got: Classes | None = None
    expected: Classes | None = None
    labels: Classes | None = None
    counts: Array | None = None
