"""Histogram, minimum and maximum of one value, gathered batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgecnn.errors import DataError
from edgecnn.types import Array

BINS = 1 << 14
"""Cells of a histogram. In the worst case a quarter of them hold data, 16 for each int8 step."""

CHUNK = 1 << 16
"""Values counted at a time; they fit the processor's cache."""
WAITING = 1 << 14
"""Values that an observer collects before it counts them."""
SMALLEST = 2.0**-100
"""Smaller magnitudes count as 0: products of scales for them would underflow float32."""

Counts = npt.NDArray[np.int64]


class Observer:
    """Histogram, minimum and maximum of one value, gathered batch by batch.

    The histogram spans -reach to reach. When a value lies outside, reach doubles and cells merge in pairs, so one pass
    over the data is enough and no count is lost. Values are collected first and counted in larger portions: a deep net
    has thousands of observers, whose histograms together do not fit a processor's cache.

    Attributes:
        low: The smallest value.
        high: The largest.
    """

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf
        self._waiting: list[npt.NDArray[np.float32]] = []
        self._counted: Counts | None = None
        self._counted_reach = 0.0

    def add(self, values: Array) -> None:
        """Add a batch of any shape.

        Raises:
            DataError: if it holds NaN or infinities.
        """
        low, high = float(values.min()), float(values.max())  # both are NaN if any value is
        if not math.isfinite(low) or not math.isfinite(high):
            raise DataError("a value is NaN or infinite")
        low, high = (0.0 if abs(end) < SMALLEST else end for end in (low, high))
        self.low, self.high = min(self.low, low), max(self.high, high)
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        if sum(w.size for w in self._waiting) + flat.size <= WAITING:
            self._waiting.append(flat.copy())
            return
        self._counted, self._counted_reach = self._count([*self._waiting, flat]), self.reach
        self._waiting = []

    @property
    def reach(self) -> float:
        """The smallest power of two that is no less than any magnitude; 0 if all values are 0."""
        magnitude = max(abs(self.low), abs(self.high))
        return float(2.0 ** np.ceil(np.log2(magnitude))) if magnitude else 0.0

    @property
    def counts(self) -> Counts:
        """The number of values in each cell."""
        return self._count(self._waiting)

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """The middle of each cell; 0 for the cell that begins at 0, because a ReLU puts most values there."""
        width = 2 * self.reach / BINS
        middles: npt.NDArray[np.float64] = (np.arange(BINS, dtype=np.float64) + 0.5) * width - self.reach
        middles[BINS // 2] = 0.0
        return middles

    def _count(self, batches: Sequence[npt.NDArray[np.float32]]) -> Counts:
        """The counts so far plus those of more values."""
        reach = self.reach
        counts = self._widened(reach)
        for flat in batches:
            if reach == 0:
                counts[BINS // 2] += flat.size
                continue
            for start in range(0, flat.size, CHUNK):
                # The width of a cell is a power of two, so the division is exact in float32.
                scaled = flat[start : start + CHUNK] * np.float32(BINS / (2 * reach))
                cells = np.floor(scaled).astype(np.int64) + BINS // 2
                counts += np.bincount(np.minimum(cells, BINS - 1), minlength=BINS)
        return counts

    def _widened(self, reach: float) -> Counts:
        """The counts so far, in cells for a larger reach."""
        if self._counted is None:
            return np.zeros(BINS, np.int64)
        counts = self._counted
        if self._counted_reach == 0:
            return counts.copy()
        for _ in range(round(math.log2(reach / self._counted_reach))):
            merged = counts.reshape(-1, 2).sum(axis=1)
            counts = np.zeros(BINS, np.int64)
            counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
        return counts.copy() if counts is self._counted else counts
