"""Quantized numbers stand for real ones, there and back."""

from __future__ import annotations

import numpy as np

from edgecnn.compare.numbers import Numbers
from edgecnn.export.file_facts import Affine


def test_quantized_numbers_go_there_and_back() -> None:
    numbers = Numbers(dtype="int8", affine=Affine(scale=0.5, zero_point=-3))
    assert numbers.limits() == (-62.5, 65.0)
    stored = numbers.stored(np.array([0.0, 0.24, 0.25, 0.75, 1e9, -1e9, np.nan]))
    assert stored.tolist() == [-3, -3, -2, -2, 127, -128, 0]  # half to even
    assert stored.dtype == np.int8
    assert numbers.real(np.array([-3, 127], np.int8)).tolist() == [0.0, 65.0]
