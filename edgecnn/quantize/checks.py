"""Requirements on calibration data, and warnings about suspicious data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgecnn.errors import DataError
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.quantize.observer import Observer
from edgecnn.types import Array

BYTES_FROM = 64.0
"""An input without negative values whose largest value lies between this and 255 probably holds bytes."""


def check_batch(graph: Graph, batch: Sequence[Array]) -> None:
    """Refuse a batch of calibration data that the graph cannot take.

    Raises:
        DataError: if the number of inputs, a shape or a type does not fit, or values are NaN or infinite.
    """
    if len(batch) != len(graph.inputs):
        raise DataError(f"calibration data holds {len(batch)} inputs, the model takes {len(graph.inputs)}")
    if len({len(a) for a in batch}) > 1:
        raise DataError(
            f"calibration inputs have {', '.join(str(len(a)) for a in batch)} samples; they must have equally many"
        )
    for value, array in zip(graph.inputs, batch, strict=True):
        if array.ndim != len(value.shape) or array.shape[1:] != value.shape[1:]:
            raise DataError(
                f"calibration samples of {value.name} have the shape {array.shape[1:]}, the model takes"
                f" {value.shape[1:]}",
                hint="samples as the model sees them, the batch as first axis",
            )
        if array.dtype.kind != "f":
            raise DataError(
                f"calibration samples of {value.name} are {array.dtype}",
                hint="floats as the model sees them: scaled and normalised, not the bytes of an image",
            )
        if not np.isfinite(array).all():
            raise DataError(f"calibration samples of {value.name} hold NaN or infinities", hint="clean data")


def check_observed(graph: Graph, observers: Mapping[ValueName, Observer]) -> None:
    """Refuse calibration data from which no ranges can be learned.

    Raises:
        DataError: if an input is 0 in every sample.
    """
    for value in graph.inputs:
        if observers[value.name].low == observers[value.name].high == 0:
            raise DataError(
                f"calibration samples of {value.name} are all 0: the model's ranges cannot be learned from them",
                hint="real samples; look at how they are loaded and scaled",
            )


def suspicions(graph: Graph, observers: Mapping[ValueName, Observer]) -> tuple[str, ...]:
    """Warnings about calibration data: bytes instead of normalised floats, and values that never vary."""
    notes = []
    for value in graph.inputs:
        seen = observers[value.name]
        if seen.low >= 0 and BYTES_FROM < seen.high <= 255:
            notes.append(
                f"calibration samples of {value.name} range from {seen.low:g} to {seen.high:g}, like bytes of an image:"
                " make sure that the model takes them unscaled"
            )
        if seen.low == seen.high:
            notes.append(f"calibration samples of {value.name} all hold the same value, {seen.low:g}")
    for node in graph.nodes:
        if observers[node.name].low == observers[node.name].high:
            constant = observers[node.name].low
            notes.append(f"{node.describe()} is always {constant:g} on the calibration data")
    return tuple(notes)
