"""Which axis of one file is which of another's: told by shapes, by layouts, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.compare.shape_mapping import AmbiguousError, Fit, UnfitError, fit


@pytest.mark.parametrize(
    ("a", "b", "order", "whole_a", "whole_b"),
    [
        ((1, 3, 8, 9), (1, 8, 9, 3), (0, 2, 3, 1), (1, 3, 8, 9), (1, 8, 9, 3)),
        ((1, 8, 9, 3), (1, 3, 8, 9), (0, 3, 1, 2), (1, 8, 9, 3), (1, 3, 8, 9)),
        ((1, 5, 7), (1, 7, 5), (0, 2, 1), (1, 5, 7), (1, 7, 5)),
        ((None, 3, None, None), (1, 8, 9, 3), (0, 2, 3, 1), (1, 3, 8, 9), (1, 8, 9, 3)),
        ((None, 10), (None, 10), (0, 1), (1, 10), (1, 10)),
        ((1, 10), (10,), (0, 1), (1, 10), (10,)),
        ((3, 8, 9), (1, 3, 8, 9), (0, 1, 2, 3), (3, 8, 9), (1, 3, 8, 9)),
        ((), (1,), (0,), (), (1,)),
    ],
)
def test_shapes_that_go_together_in_one_way(a, b, order, whole_a, whole_b) -> None:
    one = fit(a, b)
    assert (one.order, one.shape_a, one.shape_b) == (order, whole_a, whole_b)


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ((1, 3, 3, 3), (1, 3, 3, 3), AmbiguousError),
        ((1, 5, 5), (1, 5, 5), AmbiguousError),
        ((None, 3, None, None), (None, 3, None, None), UnfitError),
        ((1, 3, 8, 8), (1, 3, 8, 9), UnfitError),
        ((1, 49), (1, 7, 7, 1), UnfitError),
        ((10, 1), (1, 10), UnfitError),
    ],
)
def test_shapes_that_do_not(a, b, error) -> None:
    with pytest.raises(error):
        fit(a, b)


def test_a_cube_is_settled_by_layouts() -> None:
    cube = (1, 3, 3, 3)
    assert fit(cube, cube, layout_a="nchw", layout_b="nhwc").order == (0, 2, 3, 1)
    assert fit(cube, cube, layout_a="nhwc", layout_b="nchw").order == (0, 3, 1, 2)
    assert fit(cube, cube, layout_a="nhwc", layout_b="nhwc").order == (0, 1, 2, 3)
    with pytest.raises(AmbiguousError):
        fit(cube, cube, layout_a="nchw")


def test_sizes_of_one_are_no_ambiguity() -> None:
    assert fit((1, 7, 1, 1), (1, 7, 1, 1)).order == (0, 1, 2, 3)
    assert fit((1, 7, 1, 1), (1, 1, 1, 7)).order == (0, 2, 3, 1)
    assert fit((1, 1000), (1, 1, 1, 1000)).to_b(np.zeros((4, 1000))).shape == (4, 1, 1, 1000)
    assert fit((1, 1000, 1, 1), (1, 1000)).to_a(np.zeros((4, 1000))).shape == (4, 1000, 1, 1)


@settings(max_examples=80)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from(["nchw", "nhwc"]), st.integers(1, 3))
def test_there_and_back_is_the_same(shape, layout, samples) -> None:
    rank = len(shape)
    order = (0, *range(2, rank), 1) if layout == "nhwc" and rank > 2 else tuple(range(rank))
    there = tuple(shape[i] for i in order)
    one = fit(tuple(shape), there, layout_a="nchw", layout_b=layout)
    array = np.random.default_rng(0).random((samples, *shape[1:]))
    assert np.array_equal(one.to_b(array), array.transpose(order))
    assert np.array_equal(one.to_a(one.to_b(array)), array)


def test_fit_words() -> None:
    one = Fit(shape_a=(1, 2), shape_b=(1, 2), padded=(1, 2), order=(0, 1))
    assert one.words == "1x2 in both"
