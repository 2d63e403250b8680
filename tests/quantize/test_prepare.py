"""Preparation for int8 keeps what a graph computes."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CORE, Case
from cases.base import captured
from cases.int8_corners import INT8_CORNERS

from edgecnn.golden.float import execute_float
from edgecnn.graph.verify import batch_is_free
from edgecnn.quantize.prepare import prepare


@pytest.mark.parametrize("case", [*CORE, *INT8_CORNERS], ids=lambda c: c.name)
def test_preparation_keeps_the_meaning(case: Case) -> None:
    graph = captured(case)
    assert batch_is_free(prepare(graph)) == batch_is_free(graph)
    arrays = [x.numpy() for x in case.inputs(1)]
    before, after = execute_float(graph, arrays), execute_float(prepare(graph), arrays)
    for old, new in zip(graph.outputs, prepare(graph).outputs, strict=True):
        assert np.allclose(before[old.value], after[new.value], rtol=1e-5, atol=1e-5)
