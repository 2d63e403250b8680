"""How long to measure: when warm-up has ended, and when there are enough samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.bench.percentiles import median_interval

WINDOWS = 6
"""Number of windows in the test, which compares the newer half with the older half."""
TOLERANCE = 0.01
"""Largest shift between the halves in the steady state, as a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """Settings of a measurement; times in seconds.

    Attributes:
        processes: Number of processes in which each artifact is measured, one after the other.
        seconds: Time for all samples of one artifact on one target, over all its processes.
        warmup: Longest warm-up of each process.
        precision: Half width of the interval of a process's median, as a share of the median, at which to stop.
        slice_seconds: Approximate time of one turn of an artifact.
        rounds: Smallest number of turns in each process before ``precision`` can stop it.
        samples: Largest number of samples in each process; the record keeps all of them.
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
        """Time for the samples of one process."""
        return self.seconds / self.processes

    @property
    def calls(self) -> int:
        """Largest number of calls in one turn, so that a few turns cannot use up all samples."""
        return max(1, self.samples // (2 * self.rounds))


def is_steady(windows: Sequence[float]) -> bool:
    """Whether warm-up has ended, from the medians of all windows so far.

    The test: among the last `WINDOWS` windows, the median of the newer half differs from that of the older half by at
    most `TOLERANCE` or the spread within the halves (1.4826 times their median absolute deviation, which for normal
    noise is its standard deviation), whichever is larger. A trend prolongs warm-up; noise alone does not.
    """
    if len(windows) < WINDOWS:
        return False
    older, newer = np.split(np.asarray(windows[-WINDOWS:], np.float64), 2)
    levels = np.median(older), np.median(newer)
    spread = 1.4826 * float(np.median(np.abs(np.concatenate([older - levels[0], newer - levels[1]]))))
    return bool(abs(levels[1] - levels[0]) <= max(TOLERANCE * levels[0], spread))


def is_precise(round_medians: Sequence[float], limits: BenchSettings) -> bool:
    """Whether a process has enough samples: the interval of its median is narrow enough.

    The interval is that of order statistics of the medians of rounds, since consecutive samples are correlated.
    """
    if len(round_medians) < limits.rounds:
        return False
    width = median_interval(np.asarray(round_medians)).half_width
    return not math.isinf(width) and width <= limits.precision
