"""Observation: run a graph over calibration data and record the values of its activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edgecnn.errors import DataError
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.quantize.checks import check_batch, check_observed
from edgecnn.quantize.observer import Observer
from edgecnn.types import Array


def observe(
    graph: Graph,
    batches: Iterable[Sequence[Array]],
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[ValueName, Observer]:
    """Run the graph in float over calibration data, once, and observe every computed value and input.

    Args:
        graph: The graph.
        batches: For each batch one array per input, (samples, ...).
        progress: Called with the number of samples done.

    Raises:
        DataError: if there is no data, it does not fit the inputs or is all zero, or a value becomes NaN or infinite.
    """
    from edgecnn.golden.float import execute_float

    observers: dict[ValueName, Observer] = {}
    done = 0
    for batch in batches:
        check_batch(graph, batch)
        for name, values in execute_float(graph, batch).items():
            try:
                observers.setdefault(name, Observer()).add(values)
            except DataError as err:
                raise DataError(
                    f"{name} becomes NaN or infinite on the calibration data",
                    hint="look for outliers in the data, and at the model's weights",
                ) from err
        done += len(batch[0])
        if progress is not None:
            progress(done)
    if not done:
        raise DataError("there is no calibration data", hint="--data DATA, or calibration=...")
    check_observed(graph, observers)
    return observers
