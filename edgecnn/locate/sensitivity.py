"""Rank layers by what they lose in int8: each alone in integers, and each alone in float.

Everything runs in the golden executors with the parameters of the whole quantized graph, so that a row shows the effect
of its layer alone.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecnn.graph.analysis import macs
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Reshape, Transpose, ValueName
from edgecnn.locate.quality import Evaluator, Quality, Variant
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.quantize import float_nodes
from edgecnn.quantize.recipe import Override
from edgecnn.types import Array, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeLayer:
    """The nodes that one override of a recipe can leave in float.

    Attributes:
        path: The module's path, or where that holds other modules too, the name of the one value.
        nodes: The nodes that the path stands for, in running order.
        operators: Their kinds, in the same order.
        macs: Their multiply-accumulates for one sample.
    """

    path: str
    nodes: tuple[ValueName, ...]
    operators: tuple[str, ...]
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityRow:
    """One layer's share in the loss of int8.

    Attributes:
        layer: The layer.
        alone: The quality where only this layer is quantized: its weights, inputs and outputs are rounded.
        spared: The quality where only this layer is float.
        regained: Share of the whole graph's noise power that vanishes where only this layer is float; below 0 where
            noise grows.
    """

    layer: RecipeLayer
    alone: Quality
    spared: Quality
    regained: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """All layers, ranked by the noise that each causes by itself.

    This order predicts better than ``regained`` which layers are worth leaving in float: a value between two layers is
    rounded if either of them is in integers, so that one alone may regain nothing and both together everything.

    Attributes:
        rows: A row for each layer that is in integers.
        whole: The quality of the quantized graph as it is.
        reference_accuracy: The float graph's accuracy; None without labels.
        floor: The quality with all layers in float and only the inputs rounded: no choice of layers has less noise.
        macs: The graph's multiply-accumulates for one sample.
        samples: How many samples were measured.
    """

    rows: tuple[SensitivityRow, ...]
    whole: Quality
    reference_accuracy: float | None
    floor: Quality
    macs: int
    samples: int


def sensitivity(
    q: QuantizedGraph,
    inputs: Sequence[Array],
    *,
    labels: npt.NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Rank the layers of a quantized graph by the noise that they cause.

    N layers take 2 N executions, each only of the nodes that depend on the layer.

    Args:
        q: The quantized graph.
        inputs: One float32 array per graph input, (samples, ...); a few dozen samples are enough for the noise.
        labels: The true classes, (samples,), where they are known.
        progress: Receives how much is done.
    """
    return rank(Evaluator(q, inputs, labels), q, progress)


def rank(evaluator: Evaluator, q: QuantizedGraph, progress: Progress | None = None) -> Sensitivity:
    """Rank layers as :func:`sensitivity` does, with an evaluator that measures further variants afterwards."""
    layers = layers_of(q)
    graph = q.graph
    every = frozenset(n.name for n in graph.nodes)
    alone = [Variant(float_nodes(graph, every - set(layer.nodes)), real_inputs=True) for layer in layers]
    floor = Variant(float_nodes(graph, every))
    spared = [spare(q, [layer]) for layer in layers]
    found = evaluator.measure([evaluator.reference, evaluator.whole, floor, *alone, *spared], progress)
    reference, whole, lowest, rest = found[0], found[1], found[2], found[3:]
    rows = [
        SensitivityRow(layer=layer, alone=a, spared=s, regained=regained(whole, s))
        for layer, a, s in zip(layers, rest[: len(layers)], rest[len(layers) :], strict=True)
    ]
    return Sensitivity(
        rows=tuple(sorted(rows, key=lambda row: (-row.alone.noise, -row.regained))),
        whole=whole,
        reference_accuracy=reference.accuracy,
        floor=lowest,
        macs=sum(macs(graph, n) for n in graph.nodes),
        samples=evaluator.samples,
    )


def spare(q: QuantizedGraph, layers: Sequence[RecipeLayer]) -> Variant:
    """The variant with these layers in float, besides those that are in float already."""
    return Variant(float_nodes(q.graph, q.skipped.union(*(layer.nodes for layer in layers))))


def regained(before: Quality, after: Quality) -> float:
    """The share of the noise power that has vanished; 0 where there was none."""
    return 1 - after.noise / before.noise if before.noise else 0.0


def layers_of(q: QuantizedGraph) -> list[RecipeLayer]:
    """The layers of a quantized graph that are in integers, and can be left in float one by one."""
    found: dict[str, RecipeLayer] = {}
    for node in q.graph.nodes:
        if node.name in q.skipped or isinstance(node.op, Reshape | Transpose):
            continue  # reshapes and transposes are float where their input is
        path, nodes = _smallest(q.graph, node)
        names = tuple(n.name for n in nodes)
        if path not in found and not q.skipped.intersection(names):
            kinds = tuple(type(n.op).__name__ for n in nodes)
            found[path] = RecipeLayer(
                path=path, nodes=names, operators=kinds, macs=sum(macs(q.graph, n) for n in nodes)
            )
    return list(found.values())


def _smallest(graph: Graph, node: Node) -> tuple[str, list[Node]]:
    """The path that covers a node and the fewest other nodes, and all nodes that it covers."""
    module = node.origin.module
    within = [n for n in graph.nodes if _stands_for(module, n)] if module else []
    if within and all(n.origin.module == module for n in within):
        return module, [n for n in within if not isinstance(n.op, Reshape | Transpose)]
    named = [n for n in graph.nodes if _stands_for(node.name, n)]
    return node.name, [n for n in named if not isinstance(n.op, Reshape | Transpose)]


def _stands_for(path: str, node: Node) -> bool:
    override = Override(layers=as_glob(path))
    return override.matches(node.name) or (bool(node.origin.module) and override.matches(node.origin.module))


def as_glob(path: str) -> str:
    """A path as the glob that matches it alone."""
    return glob.escape(path)
