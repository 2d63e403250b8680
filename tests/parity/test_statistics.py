"""Intervals, tests and numbers of samples: against published values, and by simulation with fixed seeds."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from edgecnn.parity.scene_scores import f1
from edgecnn.parity.statistics import (
    NORMAL,
    binomial_tail,
    bootstrap_drop,
    mcnemar,
    paired_drop,
    samples_for,
    score_statistic,
    share,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "samples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_newcombe_has_it(successes, samples, low, high) -> None:
    """R. G. Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3."""
    assert wilson(successes, samples) == pytest.approx((low, high), abs=5e-5)
    assert wilson(samples - successes, samples) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_the_paired_example_of_fagerland() -> None:
    """Airway reactivity before and after stem cell transplantation, 21 children, 1 and 7 of whom changed.

    M. W. Fagerland, S. Lydersen and P. Laake, "Recommended tests and confidence intervals for paired binomial
    proportions", 2014: exact McNemar p = 0.070, Tango's interval from -0.517 to -0.026.
    """
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(7, 1) == mcnemar(1, 7)
    found = paired_drop(1, 7, 21, confidence=0.975, corrected=False)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert found.value == pytest.approx(-6 / 21)


@pytest.mark.parametrize("trials", [0, 1, 7, 40])
def test_the_binomial_tail_is_the_sum_of_its_terms(trials: int) -> None:
    for k in range(trials + 2):
        terms = sum(math.comb(trials, i) for i in range(k, trials + 1))
        assert binomial_tail(k, trials) == pytest.approx(terms / 2**trials, abs=1e-12)


def test_mcnemar_of_many_is_finite() -> None:
    assert mcnemar(0, 0) == 1
    assert 0 < mcnemar(5000, 5400) < 1e-4
    assert mcnemar(600_000, 0) == 0


def test_at_no_drop_the_score_statistic_is_mcnemars() -> None:
    assert score_statistic(12, 5, 300, 0.0) == pytest.approx(7 / math.sqrt(17))


@pytest.mark.parametrize(("lost", "gained", "samples"), [(0, 0, 50), (3, 0, 200), (0, 4, 60), (9, 4, 1000), (5, 5, 10)])
def test_bounds_are_where_the_statistic_reaches_its_quantile(lost, gained, samples) -> None:
    found = paired_drop(lost, gained, samples, corrected=False)
    z = NORMAL.inv_cdf(0.95)
    assert score_statistic(lost, gained, samples, found.low) == pytest.approx(z, abs=1e-6)
    assert score_statistic(lost, gained, samples, found.high) == pytest.approx(-z, abs=1e-6)
    assert found.low < found.value < found.high
    found = paired_drop(lost, gained, samples)
    assert score_statistic(lost, gained, samples, found.low, less=0.5 * (lost > gained)) == pytest.approx(z, abs=1e-6)
    mirrored = paired_drop(gained, lost, samples)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


def test_extremes_have_bounds() -> None:
    assert paired_drop(10, 0, 10).high == 1
    assert paired_drop(0, 10, 10).low == -1
    for lost, gained, samples in ((1, 0, 1), (0, 1, 1), (0, 0, 1), (1, 1, 2)):
        found = paired_drop(lost, gained, samples)
        assert -1 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(
    ("lost", "gained", "samples"), [(0.03, 0.01, 300), (0.02, 0.02, 1000), (0.10, 0.05, 100), (0.005, 0.0, 600)]
)
def test_each_bound_holds_as_often_as_it_says(lost: float, gained: float, samples: int) -> None:
    """5 % of 4,000 is 200, with a standard deviation of 14; what is discrete may hold more often than it says."""
    draws = np.random.default_rng(11).multinomial(samples, [lost, gained, 1 - lost - gained], 4000)
    bounds = cache(lambda a, b: paired_drop(a, b, samples))
    found = [bounds(int(a), int(b)) for a, b, _ in draws]
    low = np.mean([f.low <= lost - gained for f in found])
    high = np.mean([f.high >= lost - gained for f in found])
    assert low > 0.935
    assert high > 0.935


@pytest.mark.parametrize(("p", "samples"), [(0.02, 360), (0.3, 50), (0.97, 200)])
def test_wilsons_interval_holds_as_often_as_it_says(p: float, samples: int) -> None:
    interval = cache(lambda k: wilson(k, samples))
    held = [
        interval(int(k))[0] <= p <= interval(int(k))[1] for k in np.random.default_rng(5).binomial(samples, p, 4000)
    ]
    assert 0.93 < np.mean(held) < 0.985


def test_as_many_samples_as_recommended_decide_four_times_in_five() -> None:
    """A true loss of 0.2 points against a limit of 1 point: what 300 samples leave open, so many more decide."""
    rates, limit = (0.006, 0.004), 0.01
    few = 1000
    needed = samples_for(score_statistic(6, 4, few, limit), few)
    assert needed is not None
    assert few < needed < 20 * few
    draws = np.random.default_rng(2).multinomial(needed, [*rates, 1 - sum(rates)], 2000)
    bounds = cache(lambda a, b: paired_drop(a, b, needed))
    decided = np.mean([bounds(int(a), int(b)).high <= limit for a, b, _ in draws])
    assert 0.75 < decided < 0.9


def test_no_number_of_samples_for_a_value_at_its_limit() -> None:
    assert samples_for(0.0, 100) is None
    assert samples_for(1e-6, 100) is None
    assert samples_for(math.inf, 100) is None


def test_a_shares_bounds_are_wilsons() -> None:
    found = share(5, 100)
    assert (found.low, found.high) == wilson(5, 100, 0.9)


def test_bootstrap_of_pairs() -> None:
    """Two detectors of the same scenes: what both share cancels, and the bounds hold what is true of all scenes."""
    rng = np.random.default_rng(4)
    there = rng.integers(1, 6, 4_000)
    first = rng.binomial(there, 0.9)
    second = first - rng.binomial(first, 0.03)
    counts = [np.stack([right, there, there], axis=1) for right in (first, second)]
    true = float(f1(counts[0].sum(0)) - f1(counts[1].sum(0)))
    held = 0
    for i in range(10):
        part = slice(i * 400, i * 400 + 400)
        found, error = bootstrap_drop(counts[0][part], counts[1][part], f1)
        assert 0.001 < error < 0.01
        held += found.low <= true <= found.high
    assert held >= 6  # of 10, at 90 % each
    again, _ = bootstrap_drop(counts[0][:400], counts[1][:400], f1)
    assert again == bootstrap_drop(counts[0][:400], counts[1][:400], f1)[0]
