"""Execution of many samples, also by graphs that do not keep the samples of a batch apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.golden.float import execute_float
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.graph.verify import batch_is_free


def execute_samples(graph: Graph, inputs: Sequence[npt.NDArray[Any]]) -> dict[ValueName, npt.NDArray[Any]]:
    """Every value of the graph in float32 for inputs (samples, ...), in one run if the batch is free."""
    if batch_is_free(graph):
        return execute_float(graph, inputs)
    rows = [execute_float(graph, [a[i : i + 1] for a in inputs]) for i in range(len(inputs[0]))]
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
