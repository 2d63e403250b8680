"""When warm-up is over, and when there are samples enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.bench.percentiles import median_interval

WINDOWS = 6
"""Windows that are looked at: the newer half against the older half."""
TOLERANCE = 0.01
"""Shift between the halves that is no warm-up, as a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """How long to measure; times in seconds.

    Attributes:
        processes: In how many processes, one after the other, each artifact is measured.
        seconds: For all samples of one artifact on one target, all its processes together.
        warmup: At most so long in each process before samples count.
        precision: Half the interval of a process's median, as a share of it, that is narrow enough to stop.
        slice_seconds: About how long one takes its turn before the next does.
        rounds: Turns in each process: at least so many before precision can stop it.
        samples: At most so many in each process: raw samples are kept, and a record should stay readable.
    """

    processes: int = 5
    seconds: float = 5.0
    warmup: float = 1.0
    precision: float = 0.01
    slice_seconds: float = 0.05
    rounds: int = 10
    samples: int = 10_000

    @property
    def process_seconds(self) -> float:
        """For the samples of one process."""
        return self.seconds / self.processes

    @property
    def calls(self) -> int:
        """At most so many in one turn, so that no few turns take all the samples."""
        return max(1, self.samples // (2 * self.rounds))


def is_steady(windows: Sequence[float]) -> bool:
    """Whether warm-up is over, by the medians of the windows so far.

    The test: among the last `WINDOWS` windows, the median of the newer half differs from that of the older half by at
    most `TOLERANCE` or the spread within the halves (1.4826 times their median absolute deviation, which for normal
    noise is its standard deviation), whichever is more. So noise alone does not prolong warm-up, and a trend does.
    """
    if len(windows) < WINDOWS:
        return False
    older, newer = np.split(np.asarray(windows[-WINDOWS:], np.float64), 2)
    levels = np.median(older), np.median(newer)
    spread = 1.4826 * float(np.median(np.abs(np.concatenate([older - levels[0], newer - levels[1]]))))
    return bool(abs(levels[1] - levels[0]) <= max(TOLERANCE * levels[0], spread))


def is_precise(round_medians: Sequence[float], limits: BenchSettings) -> bool:
    """Whether a process has samples enough: its rounds' medians agree on the median.

    Rounds, and not samples, since samples that follow each other are alike; the interval is that of order statistics.
    """
    if len(round_medians) < limits.rounds:
        return False
    width = median_interval(np.asarray(round_medians)).half_width
    return not math.isinf(width) and width <= limits.precision
