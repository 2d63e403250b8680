"""From what was observed to the range that an int8 tensor covers. One function per method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgecnn.graph.qparams import HIGHEST, LOWEST
from edgecnn.quantize.observe import Observer

Range = tuple[float, float]
Calibrator = Callable[[Observer], Range]

PERCENTILE = 99.99
"""Share of values, in percent, that the percentile calibrator leaves unclipped."""
SHARES = np.linspace(0.2, 1.0, 65)
"""Shares of the observed range that the mse and entropy calibrators try, on each side of 0."""
STEPS = HIGHEST - LOWEST


def min_max(observer: Observer) -> Range:
    """The smallest and largest value seen."""
    return observer.low, observer.high


def percentile(observer: Observer) -> Range:
    """The range that leaves out (100 - PERCENTILE) / 2 percent of the values at each end."""
    total = observer.counts.cumsum()
    outside = total[-1] * (100 - PERCENTILE) / 200
    centers = observer.centers
    low = centers[np.searchsorted(total, outside, side="right")]
    high = centers[np.searchsorted(total, total[-1] - outside, side="left")]
    return max(float(low), observer.low), min(float(high), observer.high)


def mse(observer: Observer) -> Range:
    """The range with the least squared error of quantization, searched on both sides in turn until neither moves."""
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    best_low, best_high = low, high
    for _ in range(4):
        before = best_low, best_high
        best_high = min((high * s for s in SHARES), key=lambda h: _squared_error(observer, best_low, h))
        best_low = min((low * s for s in SHARES), key=lambda v: _squared_error(observer, v, best_high))
        if (best_low, best_high) == before:
            break
    return best_low, best_high


def entropy(observer: Observer) -> Range:
    """The range whose quantized histogram diverges least from the observed one (Kullback-Leibler).

    Migacz, "8-bit inference with TensorRT" (2017), on both sides of 0 by the same share.
    """
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    share = min(SHARES, key=lambda s: _divergence(observer, low * s, high * s))
    return low * float(share), high * float(share)


def _squared_error(observer: Observer, low: float, high: float) -> float:
    if high <= low:
        return np.inf
    used = observer.counts > 0
    values, counts = observer.centers[used], observer.counts[used]
    step = (high - low) / STEPS
    zero = np.rint(-low / step)
    restored = (np.clip(np.rint(values / step) + zero, 0, STEPS) - zero) * step
    return float(((values - restored) ** 2 * counts).sum())


def _divergence(observer: Observer, low: float, high: float) -> float:
    if high <= low:
        return np.inf
    centers, counts = observer.centers, observer.counts.astype(np.float64)
    inside = (centers >= low) & (centers <= high)
    reference = counts[inside].copy()
    if not reference.sum():
        return np.inf
    reference[0] += counts[centers < low].sum()
    reference[-1] += counts[centers > high].sum()
    levels = np.rint((centers[inside] - low) / ((high - low) / STEPS)).astype(int)
    used = counts[inside] > 0
    mass = np.bincount(levels, counts[inside], STEPS + 1)
    cells = np.bincount(levels, used, STEPS + 1)
    quantized = np.where(used, mass[levels] / np.maximum(cells[levels], 1), 0)
    p, q = reference / reference.sum(), quantized / max(quantized.sum(), 1e-300)
    both = (p > 0) & (q > 0)
    return float((p[both] * np.log(p[both] / q[both])).sum() + p[(p > 0) & (q == 0)].sum() * 30.0)


CALIBRATORS: Mapping[str, Calibrator] = MappingProxyType(
    {"minmax": min_max, "percentile": percentile, "mse": mse, "entropy": entropy}
)
DEFAULT = "mse"
