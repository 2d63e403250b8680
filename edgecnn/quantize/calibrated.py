"""Calibration: from a graph, calibration data and a recipe to the integer program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.data.calibration import Calibration
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.graph.verify import batch_is_free
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.observe import observe
from edgecnn.quantize.observer import Observer
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize
from edgecnn.quantize.recipe import Recipe, load_recipe, settings_of
from edgecnn.quantize.uint8_input import ByteInput, take_bytes
from edgecnn.types import Progress

CORRECTION_SAMPLES = 128
"""Number of calibration samples used to correct biases."""


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """A quantized graph, and how it was made.

    Attributes:
        quantized: The integer program.
        recipe: The recipe's name.
        origin: Where the calibration samples came from, as a phrase.
        samples: The number of calibration samples.
        bytes_in: How the first input takes uint8; None if it does not.
    """

    quantized: QuantizedGraph
    recipe: str
    origin: str
    samples: int
    bytes_in: ByteInput | None = None

    def golden(
        self, inputs: Sequence[npt.NDArray[np.float32]], *, roundings: Sequence[str]
    ) -> dict[str, dict[str, npt.NDArray[np.int8]]]:
        """For each rounding rule the integers of every output, by public name, for float inputs (samples, ...).

        An output that a float layer computes is quantized by its parameters.
        """
        from edgecnn.golden.float_layers import as_integers
        from edgecnn.golden.integer import execute_by_rules

        q = self.quantized
        if self.bytes_in is not None:
            inputs = self.bytes_in.convert(inputs)
        integers = [q.activations[i.name].quantize(a) for i, a in zip(q.graph.inputs, inputs, strict=True)]
        return {
            rounding: {o.name: as_integers(q, o.value, values[o.value]) for o in q.graph.outputs}
            for rounding, values in execute_by_rules(q, integers, roundings).items()
        }


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A graph prepared for quantization, with an observer for each of its values."""

    graph: Graph
    observers: Mapping[ValueName, Observer]
    bytes_in: ByteInput | None = None


def observe_graph(
    graph: Graph,
    data: Calibration,
    recipe: str,
    *,
    bytes_of: Preprocessing | None = None,
    progress: Progress | None = None,
) -> Observed:
    """Run the graph over the calibration data once. A recipe that does not fit the model is refused first.

    Args:
        graph: The graph.
        data: The calibration data.
        recipe: The recipe's name or path.
        bytes_of: The preprocessing to fold into the first input, which then takes uint8.
        progress: Called with the number of samples done.

    Raises:
        UsageError: if there is no such recipe, or it does not fit the model.
        DataError: if a value becomes NaN or infinite on the data.
        QuantizationError: if the preprocessing cannot be folded exactly.
    """
    bytes_in = None if bytes_of is None else take_bytes(graph, bytes_of)
    if bytes_in is not None:
        graph, data = bytes_in.graph, bytes_in.calibration(data)
    legal = prepare(graph)
    settings_of(load_recipe(recipe), legal)
    return Observed(graph=legal, observers=observe(legal, _with_progress(data, progress)), bytes_in=bytes_in)


def quantize_graph(observed: Observed, data: Calibration, recipe: str) -> QuantizedModel:
    """Quantize an observed graph by a recipe: its name, or the path of a TOML file.

    Raises:
        UsageError: if there is no such recipe, or it does not fit the model.
        QuantizationError: if an operator, a weight or a bias has no int8 form.
    """
    rules = load_recipe(recipe)
    taken = observed.bytes_in
    if taken is not None:
        data = taken.calibration(data)
    quantized = quantize_observed(observed, data, rules)
    return QuantizedModel(
        quantized=quantized,
        recipe=rules.name,
        origin=data.origin,
        samples=data.samples,
        bytes_in=taken,
    )


def quantize_observed(observed: Observed, data: Calibration, rules: Recipe) -> QuantizedGraph:
    """Quantize an observed graph by a recipe, and correct its biases.

    Args:
        observed: The graph and its observers.
        data: The calibration data in the form that the observed graph takes.
        rules: The recipe.

    Raises:
        UsageError: if the recipe does not fit the model.
        QuantizationError: if an operator, a weight or a bias has no int8 form.
    """
    taken = observed.bytes_in
    prescribed = {} if taken is None else {observed.graph.inputs[0].name: taken.params}
    quantized = quantize(observed.graph, observed.observers, rules, prescribed=prescribed)
    if not (rules.correct_biases and batch_is_free(observed.graph)):
        return quantized
    from edgecnn.quantize.bias_correction import correct_biases

    return correct_biases(quantized, _correction_samples(data))


def _correction_samples(data: Calibration) -> list[npt.NDArray[np.float32]]:
    """Evenly spread calibration samples, one array per input."""
    inputs = [np.concatenate(columns) for columns in zip(*data.batches(), strict=True)]
    count = min(CORRECTION_SAMPLES, len(inputs[0]))
    return [a[np.linspace(0, len(a) - 1, count).round().astype(int)] for a in inputs]


def _with_progress(data: Calibration, progress: Progress | None) -> Iterator[Sequence[npt.NDArray[Any]]]:
    """The batches of calibration data; progress is reported after each."""
    done = 0
    for batch in data.batches():
        yield batch
        done += len(batch[0])
        if progress is not None:
            progress("calibrating", done, data.samples)
