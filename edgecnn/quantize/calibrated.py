"""Calibration data and a recipe in, the integer program out, with what is to be said about it."""

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
"""Calibration samples that biases are corrected by."""


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """A quantized graph, and how it came to be.

    Attributes:
        quantized: The integer program.
        recipe: The recipe's name.
        origin: Where the calibration samples came from, in words.
        samples: How many they were.
        bytes_in: How the first input takes bytes, where it does.
    """

    quantized: QuantizedGraph
    recipe: str
    origin: str
    samples: int
    bytes_in: ByteInput | None = None

    def golden(
        self, inputs: Sequence[npt.NDArray[np.float32]], *, roundings: Sequence[str]
    ) -> dict[str, dict[str, npt.NDArray[np.int8]]]:
        """By rule of rounding the integers of every output, by its public name, for float inputs (samples, ...).

        An output that a float layer gives is quantized by its parameters.
        """
        from edgecnn.golden.integer import execute_by_rules
        from edgecnn.golden.mixed import as_integers

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
    """A graph in the form that integer programs are made from, and what its values were seen to be."""

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
    """Run the graph over the calibration data, once. A recipe that does not fit the model is refused before that.

    Args:
        graph: The graph.
        data: The calibration data.
        recipe: The recipe's name or path.
        bytes_of: The preprocessing that the first input is to do itself, taking bytes.
        progress: Told the samples done.

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
    return Observed(graph=legal, observers=observe(legal, _told(data, progress)), bytes_in=bytes_in)


def quantize_graph(observed: Observed, data: Calibration, recipe: str) -> QuantizedModel:
    """Quantize what was observed by a recipe: its name, or the path of a TOML file.

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
    """The quantized graph of a recipe, its biases corrected.

    Args:
        observed: What was observed.
        data: The calibration data as the observed graph takes it: bytes, where that does.
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

    return correct_biases(quantized, _some(data))


def _some(data: Calibration) -> list[npt.NDArray[np.float32]]:
    """Evenly spread calibration samples, one array per input."""
    inputs = [np.concatenate(columns) for columns in zip(*data.batches(), strict=True)]
    count = min(CORRECTION_SAMPLES, len(inputs[0]))
    return [a[np.linspace(0, len(a) - 1, count).round().astype(int)] for a in inputs]


def _told(data: Calibration, progress: Progress | None) -> Iterator[Sequence[npt.NDArray[Any]]]:
    done = 0
    for batch in data.batches():
        yield batch
        done += len(batch[0])
        if progress is not None:
            progress("calibrating", done, data.samples)
