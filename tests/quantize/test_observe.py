"""Observers count what numpy counts, and refuse what is not finite."""

from __future__ import annotations

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from support.quantized_nets import observer, samples

from edgecnn.errors import DataError
from edgecnn.quantize.observer import BINS, SMALLEST

FLOATS = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(st.lists(FLOATS, min_size=1, max_size=4))
def test_an_observer_counts_what_numpy_counts(batches: list[np.ndarray]) -> None:
    seen, values = observer(*batches), np.concatenate(batches).astype(np.float64)
    felt = np.where(np.abs(values) < SMALLEST, 0, values)
    assert (seen.low, seen.high) == (felt.min(), felt.max())
    assert seen.counts.sum() == len(values)
    magnitude = np.abs(felt).max()
    if magnitude:
        assert magnitude <= seen.reach < 2 * magnitude or seen.reach == magnitude
        cells = np.floor(values * (BINS / (2 * seen.reach))) + BINS // 2
        assert np.array_equal(seen.counts, np.bincount(np.minimum(cells, BINS - 1).astype(int), minlength=BINS))


def test_widening_merges_cells_and_loses_none() -> None:
    small, large = samples(4), 100 * samples(4, seed=1)
    first, last = observer(small, large), observer(large, small)
    assert first.reach == last.reach
    assert np.array_equal(first.counts, last.counts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_observer_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(DataError):
        observer(np.array([1.0, bad]))
