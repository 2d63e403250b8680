"""Calibrators: functions from an observed value to the range that its int8 tensor covers, one for each method.

``mse`` and ``entropy`` try many ranges. A range divides the histogram into 256 levels. The cost of a level follows from
sums over its cells, so with running sums a range costs 256 differences, however fine the histogram is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgecnn.program.qparams import INT8_MAX, INT8_MIN, Range
from edgecnn.quantize.observer import BINS, Observer

Calibrator = Callable[[Observer], Range]
Reals = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]

PERCENTILE = 99.99
"""Share of values, in percent, that the percentile calibrator leaves unclipped."""
SHARES = np.linspace(0.2, 1.0, 65)
"""Shares of the observed range that the mse and entropy calibrators try, on each side of 0."""
STEPS = INT8_MAX - INT8_MIN
LOST = 30.0
"""The penalty, in nats, that ``entropy`` adds for a cell that holds values but gets no probability."""


def min_max(observer: Observer) -> Range:
    """The smallest and largest value seen."""
    return observer.low, observer.high


def percentile(observer: Observer) -> Range:
    """The range that leaves out (100 - PERCENTILE) / 2 percent of the values at each end."""
    total = observer.counts.cumsum()
    outside = total[-1] * (100 - PERCENTILE) / 200
    centers = observer.centers
    ends = np.searchsorted(total, outside, side="right"), np.searchsorted(total, total[-1] - outside, side="left")
    low, high = np.clip(centers[list(ends)], observer.low, observer.high)
    return float(low), float(high)


def mse(observer: Observer) -> Range:
    """The range with the least squared error of quantization, searched on both sides in turn until neither changes."""
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    if low == high:
        return low, high
    sums = _Sums(observer)
    best_low, best_high = low, high
    for _ in range(4):
        before = best_low, best_high
        best_high = _least(sums, np.full(len(SHARES), best_low), high * SHARES)[1]
        best_low = _least(sums, low * SHARES, np.full(len(SHARES), best_high))[0]
        if (best_low, best_high) == before:
            break
    return best_low, best_high


def entropy(observer: Observer) -> Range:
    """The range whose quantized histogram diverges least from the observed one (Kullback-Leibler).

    Migacz, "8-bit inference with TensorRT" (2017), with one share for both sides of 0.
    """
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    if low == high:
        return low, high
    best = SHARES[int(np.argmin(divergences(observer, low * SHARES, high * SHARES)))]
    return low * float(best), high * float(best)


def squared_errors(observer: Observer, lows: Reals, highs: Reals) -> Reals:
    """For each range, the sum of squared errors over all values, where each value counts as the middle of its cell."""
    return _Sums(observer).errors(lows, highs)


class _Sums:
    """Running sums over a histogram: of counts, values and squares, each starting with 0."""

    def __init__(self, observer: Observer) -> None:
        self.reach = observer.reach
        centers, counts = observer.centers, observer.counts.astype(np.float64)
        self.counts = _running(counts)
        self.values, self.squares = _running(counts * centers), _running(counts * np.square(centers))

    def errors(self, lows: Reals, highs: Reals) -> Reals:
        edges, reals = _levels(self.reach, lows, highs)
        counts, values, squares = (np.diff(s[edges], axis=1) for s in (self.counts, self.values, self.squares))
        total: Reals = (squares - 2 * reals * values + reals**2 * counts).sum(axis=1)
        return total


def _running(amounts: Reals) -> Reals:
    return np.concatenate([[0.0], np.cumsum(amounts)])


def _least(sums: _Sums, lows: Reals, highs: Reals) -> Range:
    usable = highs > lows
    errors = np.full(len(lows), np.inf)
    errors[usable] = sums.errors(lows[usable], highs[usable])
    best = int(np.argmin(errors))
    return float(lows[best]), float(highs[best])


def _levels(reach: float, lows: Reals, highs: Reals) -> tuple[Cells, Reals]:
    """For each range, the cells at which its 256 levels begin, the end, and the real values of the levels.

    Values beyond the range belong to the outermost levels. The zero point is an integer, as in the file.
    """
    step = ((highs - lows) / STEPS)[:, None]
    zero = np.clip(np.rint(-lows[:, None] / step), 0, STEPS)
    levels = np.arange(STEPS + 1) - zero
    starts = np.ceil(((levels[:, 1:] - 0.5) * step + reach) * (BINS / (2 * reach)) - 0.5)
    ends = np.full((len(lows), 1), BINS)
    edges = np.hstack([np.zeros_like(ends), np.clip(starts, 0, BINS).astype(np.int64), ends])
    return edges, levels * step


def divergences(observer: Observer, lows: Reals, highs: Reals) -> Reals:
    """For each range, the divergence in nats of the quantized histogram from the observed one, clipped to the range.

    The clipped histogram has the counts beyond the range in its outermost cells. The quantized histogram spreads the
    counts of each level evenly over the cells of the level that hold any. The cell at 0 is left out: 0 is a level in
    every range, and after a ReLU half of all values are 0, which would outweigh all others if spread over a level.
    """
    counts = observer.counts.astype(np.float64)
    counts[BINS // 2] = 0
    cells = (np.stack([lows, highs]) + observer.reach) * (BINS / (2 * observer.reach))
    first = np.clip(np.ceil(cells[0] - 0.5), 0, BINS - 1).astype(np.int64)
    last = np.maximum(np.clip(np.floor(cells[1] - 0.5), 0, BINS - 1).astype(np.int64), first)
    edges, _ = _levels(observer.reach, lows, highs)
    edges = np.clip(edges, first[:, None], last[:, None] + 1)
    edges[:, 0], edges[:, -1] = first, last + 1
    mass, used, information = map(_running, (counts, np.sign(counts), _n_log_n(counts)))
    below, above = mass[first], mass[-1] - mass[last + 1]
    own = np.diff(mass[edges], axis=1)
    height = own / np.maximum(np.diff(used[edges], axis=1), 1)
    total, inside = mass[-1], mass[last + 1] - mass[first]
    # Sum of p log p over the cells; the two outermost ones include the counts beyond the range.
    entropies = information[last + 1] - information[first]
    entropies += sum(_n_log_n(counts[at] + more) - _n_log_n(counts[at]) for at, more in ((first, below), (last, above)))
    # Sum of p log q: the counts of a level at its height. A cell with p but without q adds a penalty.
    crosses = (own * _log(height)).sum(axis=1)
    lost = np.zeros(len(lows))
    for at, more, level in ((first, below, _filled(edges, first)), (last, above, _filled(edges, last))):
        known = counts[at] > 0
        crosses += np.where(known, more * _log(np.take_along_axis(height, level[:, None], 1)[:, 0]), 0)
        lost += np.where(known, 0, more)
        entropies -= np.where(known, 0, _n_log_n(more))
    kept = total - lost
    ratio = np.where(kept > 0, kept * np.log(np.maximum(inside, 1) / total), 0)
    result: Reals = (entropies - crosses + ratio) / total + lost / total * LOST
    return np.where(inside > 0, result, np.inf)


def _filled(edges: Cells, cell: Cells) -> Cells:
    """For each range, the level that its cell belongs to."""
    level: Cells = np.maximum((edges[:, :-1] <= cell[:, None]).sum(axis=1) - 1, 0)
    return level


def _log(values: Reals) -> Reals:
    return np.log(np.where(values > 0, values, 1.0))


def _n_log_n(values: Reals) -> Reals:
    return values * _log(values)


CALIBRATORS: Mapping[str, Calibrator] = MappingProxyType(
    {"minmax": min_max, "percentile": percentile, "mse": mse, "entropy": entropy}
)
DEFAULT = "mse"
