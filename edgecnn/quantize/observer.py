"""Histogram, minimum and maximum of one value, gathered batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgecnn.errors import DataError
from edgecnn.types import Array

BINS = 1 << 14
"""Cells of a histogram. At worst half of them lie on one side of 0 and half of those hold data: 16 per int8 step."""

CHUNK = 1 << 16
"""Values counted at a time: what fits the processor's cache."""
WAITING = 1 << 14
"""Values of one observer that wait to be counted."""
SMALLEST = 2.0**-100
"""Magnitudes below it count as 0: no scale for them could be multiplied with another in float32."""

Counts = npt.NDArray[np.int64]


class Observer:
    """Histogram, minimum and maximum of one value, gathered batch by batch.

    The histogram spans -reach to reach. When a value lies outside, reach doubles and cells merge in pairs, so one pass
    over the data is enough and no count is lost. Few values wait until they are worth a histogram: a deep net has
    thousands of observers, whose histograms together do not fit a processor's cache.

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
        """Take in a batch of any shape.

        Raises:
            DataError: if it holds NaN or infinities.
        """
        low, high = float(values.min()), float(values.max())  # NaN wins both
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
        """The power of two that all magnitudes lie within; 0 where all are 0."""
        magnitude = max(abs(self.low), abs(self.high))
        return float(2.0 ** np.ceil(np.log2(magnitude))) if magnitude else 0.0

    @property
    def counts(self) -> Counts:
        """Values in each cell."""
        return self._count(self._waiting)

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """The middle of each cell; that of the cell that begins at 0 is 0, where ReLU puts most values."""
        width = 2 * self.reach / BINS
        middles: npt.NDArray[np.float64] = (np.arange(BINS, dtype=np.float64) + 0.5) * width - self.reach
        middles[BINS // 2] = 0.0
        return middles

    def _count(self, batches: Sequence[npt.NDArray[np.float32]]) -> Counts:
        """What has been counted before, and these."""
        reach = self.reach
        counts = self._widened(reach)
        for flat in batches:
            if reach == 0:
                counts[BINS // 2] += flat.size
                continue
            for start in range(0, flat.size, CHUNK):
                # Cells are powers of two wide, so that the division is exact in float32.
                scaled = flat[start : start + CHUNK] * np.float32(BINS / (2 * reach))
                cells = np.floor(scaled).astype(np.int64) + BINS // 2
                counts += np.bincount(np.minimum(cells, BINS - 1), minlength=BINS)
        return counts

    def _widened(self, reach: float) -> Counts:
        """The counts so far, in cells that span a reach."""
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
