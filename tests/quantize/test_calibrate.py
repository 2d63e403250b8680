"""Calibrators find the range that brute force finds."""

from __future__ import annotations

import numpy as np
import pytest
from support.quantized_nets import observer

from edgecnn.quantize import calibrate
from edgecnn.quantize.calibrate import CALIBRATORS, SHARES, STEPS
from edgecnn.quantize.observer import BINS, Observer

DISTRIBUTIONS = {
    "normal": lambda rng: rng.standard_normal(4000),
    "relu": lambda rng: np.maximum(rng.standard_normal(4000), 0),
    "heavy": lambda rng: rng.standard_t(3, 4000),
    "one outlier": lambda rng: np.append(rng.standard_normal(4000), 80.0),
    "negative": lambda rng: -np.abs(rng.standard_normal(4000)) - 1,
    "two sizes": lambda rng: np.concatenate([rng.standard_normal(4000), 0.01 * rng.standard_normal(4000)]),
}


@pytest.fixture(params=DISTRIBUTIONS)
def seen(request: pytest.FixtureRequest) -> Observer:
    return observer(DISTRIBUTIONS[request.param](np.random.default_rng(5)))


def error_of(seen: Observer, low: float, high: float) -> float:
    """What one range costs, cell by cell."""
    step = (high - low) / STEPS
    zero = np.clip(np.rint(-low / step), 0, STEPS)
    restored = (np.clip(np.rint(seen.centers / step) + zero, 0, STEPS) - zero) * step
    return float(((seen.centers - restored) ** 2 * seen.counts).sum())


def divergence_of(seen: Observer, low: float, high: float) -> float:
    """What one range costs in entropy, cell by cell."""
    step = (high - low) / STEPS
    zero = np.clip(np.rint(-low / step), 0, STEPS)
    middles = (np.arange(BINS) + 0.5) * (2 * seen.reach / BINS) - seen.reach
    counts = seen.counts.astype(float)
    counts[BINS // 2] = 0
    inside = np.flatnonzero((middles >= low) & (middles <= high))
    reference = counts[inside].copy()
    reference[0] += counts[: inside[0]].sum()
    reference[-1] += counts[inside[-1] + 1 :].sum()
    level = np.clip(np.rint(middles[inside] / step) + zero, 0, STEPS).astype(int)
    spread = np.zeros(len(inside))
    for one in np.unique(level):
        cells = np.flatnonzero((level == one) & (counts[inside] > 0))
        if len(cells):
            spread[cells] = counts[inside][level == one].sum() / len(cells)
    if not spread.sum():
        return np.inf
    p, q = reference / reference.sum(), spread / spread.sum()
    both = (p > 0) & (q > 0)
    return float((p[both] * np.log(p[both] / q[both])).sum() + calibrate.LOST * p[(p > 0) & (q == 0)].sum())


def test_running_sums_give_the_errors_of_brute_force(seen: Observer) -> None:
    lows, highs = min(seen.low, 0.0) * SHARES, max(seen.high, 0.0) * SHARES
    expected = [error_of(seen, low, high) for low, high in zip(lows, highs, strict=True)]
    np.testing.assert_allclose(calibrate.squared_errors(seen, lows, highs), expected, rtol=2e-3)


def test_mse_finds_what_brute_force_finds(seen: Observer) -> None:
    low, high = calibrate.mse(seen)
    tried = [
        error_of(seen, a, b)
        for a in np.unique(min(seen.low, 0.0) * SHARES[::4])
        for b in np.unique(max(seen.high, 0.0) * SHARES[::4])
        if a < b
    ]
    assert error_of(seen, low, high) <= 1.02 * min(tried)


def test_entropy_is_that_of_brute_force(seen: Observer) -> None:
    lows, highs = min(seen.low, 0.0) * SHARES[::8], max(seen.high, 0.0) * SHARES[::8]
    expected = [divergence_of(seen, low, high) for low, high in zip(lows, highs, strict=True)]
    np.testing.assert_allclose(calibrate.divergences(seen, lows, highs), expected, rtol=2e-2, atol=2e-3)


def test_percentile_leaves_out_a_share_at_each_end() -> None:
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    low, high = calibrate.percentile(observer(values))
    outside = (100 - calibrate.PERCENTILE) / 200
    np.testing.assert_allclose((low, high), np.quantile(values, [outside, 1 - outside]), rtol=0.01)


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize(
    "values", [[0.0], [3.0], [-3.0], [0.0, 1e-35], [2.0**-80, 1.0], [-5.0, -4.0], [2.0**99, -(2.0**99)]]
)
def test_every_calibrator_stays_within_what_was_seen(name: str, values: list[float]) -> None:
    low, high = CALIBRATORS[name](observer(np.array(values)))
    assert min(*values, 0) <= low <= high <= max(*values, 0) or (low, high) == (min(values), max(values))
