"""Suggest the fewest layers to leave in float so that a stated share of int8's loss is regained, and prove it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from edgecnn.data.calibration import Calibration
from edgecnn.errors import UsageError
from edgecnn.graph.ops import ValueName
from edgecnn.locate.quality import Evaluator, Quality
from edgecnn.locate.sensitivity import RecipeLayer, Sensitivity, as_glob, rank, regained, spare
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.calibrated import Observed, quantize_observed
from edgecnn.quantize.recipe import Override, Recipe
from edgecnn.types import Array, Progress

SHARE = 0.75
"""The share of the noise power to regain by default: 6 dB, as much as one further bit brings."""
TRIED = 4
"""How many layers of the ranking are tried at each step, besides the neighbours of those chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A recipe with layers in float, and its effect.

    Attributes:
        recipe: The recipe.
        layers: The layers that it leaves in float and that were in integers.
        quality: The quality of a graph that was calibrated, quantized and bias-corrected by this recipe.
        regained: Share of the noise power that has vanished.
        macs: Share of all multiply-accumulates that these layers compute in float.
    """

    recipe: Recipe
    layers: tuple[RecipeLayer, ...]
    quality: Quality
    regained: float
    macs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The ranked layers of a model, and a suggestion.

    Attributes:
        sensitivity: Its layers, ranked.
        suggestion: The layers to leave in float; None where the whole graph is exact already.
        programs: How many programs were executed on all samples.
        work: How much these executions computed, in executions of the whole graph.
    """

    sensitivity: Sensitivity
    suggestion: Suggestion | None
    programs: int
    work: float


def advise(
    observed: Observed,
    data: Calibration,
    recipe: Recipe,
    inputs: Sequence[Array],
    *,
    labels: npt.NDArray[np.int64] | None = None,
    share: float = SHARE,
    progress: Progress | None = None,
) -> Advice:
    """Rank the layers of a model, and suggest which to leave in float.

    Args:
        observed: The model and the observed ranges of its values.
        data: The calibration data.
        recipe: The recipe to start from.
        inputs: Samples to measure on, one float32 array per graph input.
        labels: The true classes, where they are known.
        share: Share of the noise power to regain, between 0 and 1.
        progress: Receives how much is done.

    Raises:
        UsageError: if no choice of layers regains that share; it says how much can be regained.
        QuantizationError: if the model cannot be quantized.
    """
    quantized = quantize_observed(observed, data, recipe)
    evaluator = Evaluator(quantized, inputs, labels)
    ranking = rank(evaluator, quantized, progress)
    search = _Search(quantized, evaluator, ranking, share)
    suggestion = None
    if ranking.whole.noise:
        search.check_reachable()
        suggestion = _proven(search, observed, data, recipe, inputs, labels)
    return Advice(
        sensitivity=ranking, suggestion=suggestion, programs=evaluator.programs + search.proofs, work=evaluator.work
    )


def with_floats(recipe: Recipe, layers: Sequence[RecipeLayer]) -> Recipe:
    """The recipe with these layers in float."""
    taken = {o.layers for o in recipe.overrides}
    new = []
    for layer in layers:
        pattern = as_glob(layer.path)
        if pattern in taken:  # a TOML document has each key once; this is another spelling of the same glob
            pattern = as_glob(layer.path[:-1]) + f"[{layer.path[-1]}]"
        new.append(Override(layers=pattern, precision="float"))
    return msgspec.structs.replace(recipe, overrides=(*recipe.overrides, *new))


def _proven(
    search: _Search,
    observed: Observed,
    data: Calibration,
    recipe: Recipe,
    inputs: Sequence[Array],
    labels: npt.NDArray[np.int64] | None,
) -> Suggestion:
    """The search's choice, quantized by its own recipe and executed; one more layer as long as it regains too little.

    Raises:
        UsageError: if all layers regain too little.
    """
    before = search.ranking.whole
    layers = search.choose()
    while True:
        changed = with_floats(recipe, layers)
        quantized = quantize_observed(observed, data, changed)
        proof = Evaluator(quantized, inputs, labels)
        (quality,) = proof.measure([proof.whole])
        search.proofs += 1
        if regained(before, quality) >= search.share:
            break
        if not search.left:
            raise search.out_of_reach(regained(before, quality))
        layers = search.one_more()
    return Suggestion(
        recipe=changed,
        layers=tuple(layers),
        quality=quality,
        regained=regained(before, quality),
        macs=sum(layer.macs for layer in layers) / (search.ranking.macs or 1),
    )


class _Search:
    """A greedy search: each step adds, out of the likeliest layers, the one that regains most with those chosen.

    A layer regains more where its neighbour is float, since no value between them is rounded then. Neighbours are
    therefore tried too, wherever they stand in the ranking.
    """

    def __init__(self, q: QuantizedGraph, evaluator: Evaluator, ranking: Sensitivity, share: float) -> None:
        self._q, self._evaluator, self.ranking, self.share = q, evaluator, ranking, share
        self.left: list[RecipeLayer] = [row.layer for row in ranking.rows]
        self.proofs = 0
        self._chosen: list[RecipeLayer] = []

    def check_reachable(self) -> None:
        """Refuse a share that all layers in float do not regain.

        Raises:
            UsageError: saying what they do.
        """
        most = regained(self.ranking.whole, self.ranking.floor)
        if most < self.share:
            raise self.out_of_reach(most)

    def out_of_reach(self, most: float) -> UsageError:
        """The error for a share that even all layers in float do not regain."""
        return UsageError(
            f"no choice of layers regains {self.share:.0%} of what int8 loses",
            why=f"the integers of the inputs alone leave {1 - most:.1%} of the noise, with all layers in float",
            hint=f"--regain {max(int(most * 100) / 100, 0):g} or less, or a narrower range of the inputs:"
            ' calibrator = "percentile"',
        )

    def choose(self) -> list[RecipeLayer]:
        """RecipeAdd layers until the share is regained, then drop those that are not needed."""
        while regained(self.ranking.whole, self._add()) < self.share and self.left:
            pass
        self._drop()
        return self._in_order()

    def one_more(self) -> list[RecipeLayer]:
        """The choice with one more layer."""
        self._add()
        return self._in_order()

    def _in_order(self) -> list[RecipeLayer]:
        return sorted(self._chosen, key=lambda layer: self._places[layer.nodes[0]])

    @property
    def _places(self) -> dict[ValueName, int]:
        return {n.name: i for i, n in enumerate(self._q.graph.nodes)}

    def _add(self) -> Quality:
        tried = [
            *self.left[:TRIED],
            *(layer for layer in self.left[TRIED:] if any(self._adjoin(layer, other) for other in self._chosen)),
        ]
        found = self._evaluator.measure([spare(self._q, [*self._chosen, layer]) for layer in tried])
        best = min(range(len(tried)), key=lambda i: found[i].noise)
        self._chosen.append(tried[best])
        self.left.remove(tried[best])
        return found[best]

    def _drop(self) -> None:
        """Drop layers that are no longer needed, the earliest chosen first; the last one stays."""
        for layer in self._chosen[:-1]:
            rest = [other for other in self._chosen if other is not layer]
            (quality,) = self._evaluator.measure([spare(self._q, rest)])
            if regained(self.ranking.whole, quality) >= self.share:
                self._chosen = rest
                self.left.append(layer)

    def _adjoin(self, a: RecipeLayer, b: RecipeLayer) -> bool:
        producers = self._q.graph.producers
        reads = [{i for n in layer.nodes for i in producers[n].inputs} for layer in (a, b)]
        return bool(reads[0].intersection(b.nodes) or reads[1].intersection(a.nodes))
