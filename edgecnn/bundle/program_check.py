"""Validity checks of a program that was read from a file: those of graphs, and those of its integers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from edgecnn.bundle.manifest import check_text
from edgecnn.errors import BundleError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import AvgPool2d, Conv2d, Linear, MaxPool2d, ValueName
from edgecnn.graph.shapes import Shape
from edgecnn.graph.verify import verify
from edgecnn.program.integer_weights import WEIGHT_MAX
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.program.quantized16 import Scale16

_MAX_ELEMENTS = 2**31 - 1
_MAX_WINDOW = 4096
"""Largest window or padding of a pooling along an axis, since some checks of a graph take time for each cell."""


def check_graph(graph: Graph) -> Graph:
    """Check a graph, and return it.

    Raises:
        BundleError: if a name cannot be printed, a shape is not positive and bounded, or a constant is not finite.
        GraphError: if it violates a rule of :mod:`edgecnn.graph.verify`.
    """
    for i in graph.inputs:
        _check_value(i.name, i.shape)
    for node in graph.nodes:
        _check_value(node.name, node.shape)
        if isinstance(node.op, MaxPool2d | AvgPool2d):
            reach = node.op.reach if isinstance(node.op, AvgPool2d) else node.op.padding
            dilation = node.op.dilation if isinstance(node.op, MaxPool2d) else (1, 1)
            bounded = max(*node.op.kernel, *dilation, *reach) <= _MAX_WINDOW
            _require(bounded, f"{node.name}: a window of {node.op.kernel} padded by {tuple(reach)} is too large")
        for text in (node.origin.module, node.origin.source, node.origin.operator):
            check_text(f"origin of {node.name}", text, may_be_empty=True)
    for output in graph.outputs:
        check_text("name of an output", output.name)
    for name, array in graph.constants.items():
        _check_value(name, array.shape)
        _require(bool(np.isfinite(array).all()), f"constant {name} holds values that are NaN or infinite")
    return verify(graph)


def check_quantized(q: QuantizedGraph) -> QuantizedGraph:
    """Check that an integer program has matching parameters for all its operators, and return it.

    Raises:
        BundleError: if parameters are missing or do not fit; the error names them.
    """
    _require(0 < q.weight_limit <= WEIGHT_MAX, f"the limit of weights is {q.weight_limit}")
    for note in q.notes:
        check_text("note", note)
    _check_known("float layers", q.skipped, q.graph.producers)
    _check_known("parameters", q.activations, q.graph.shapes)
    _check_known("weights", q.weights, q.graph.constants)
    _check_known("biases", q.biases, q.graph.producers)
    values = [i.name for i in q.graph.inputs] + [n.name for n in q.graph.nodes]
    for node in q.graph.nodes:
        if node.name not in q.skipped:
            values += _check_weighted(q, node) if isinstance(node.op, Conv2d | Linear) else node.inputs
    missing = [v for v in values if v not in q.activations]
    _require(not missing, f"{(missing or [''])[0]} has no parameters")
    return q


def check_scales(graph: Graph, scales: Mapping[ValueName, Scale16]) -> Mapping[ValueName, Scale16]:
    """Check that an int16x8 program has a scale for each of its values and no others, and return the scales.

    Raises:
        BundleError: if a scale is missing or superfluous; the error names it.
    """
    values = {*(i.name for i in graph.inputs), *graph.producers}
    _check_known("scales", scales, values)
    missing = sorted(values - set(scales))
    _require(not missing, f"{(missing or [''])[0]} has no scale")
    strange = [n for n in graph.nodes if isinstance(n.op, Conv2d | Linear) and n.op.weight not in graph.constants]
    _require(not strange, "the weights of a layer are computed")
    return scales


def _check_weighted(q: QuantizedGraph, node: Node) -> list[str]:
    """Check the integers of a layer; returns the values that need quantization parameters."""
    assert isinstance(node.op, Conv2d | Linear)
    weights, bias = q.weights.get(node.op.weight), q.biases.get(node.name)
    if weights is None or bias is None:
        raise BundleError(f"{node.describe()} has no integers")
    shape = q.graph.shapes[node.op.weight]
    fits = weights.integers.shape == shape and weights.scales.shape == bias.shape == shape[:1]
    _require(fits, f"the integers of {node.describe()} do not fit weights of {shape}")
    positive = np.isfinite(weights.scales).all() and (weights.scales > 0).all()
    _require(bool(positive), f"a weight scale of {node.describe()} is not positive")
    return [node.op.x]


def _check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    strange = sorted(set(names) - set(known))
    _require(not strange, f"{what} of {(strange or [''])[0][:80]!r}, which the graph does not have")


def _check_value(name: str, shape: Shape) -> None:
    check_text("name of a value", name)
    bounded = len(shape) <= 8 and all(0 < n <= _MAX_ELEMENTS for n in shape) and math.prod(shape) <= _MAX_ELEMENTS
    _require(bounded, f"{name}: shape {shape} is not positive and bounded")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise BundleError(message)
