"""int8 quantization: parameters for every value and integers for every weight, one program for all formats."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from edgecnn.errors import QuantizationError
from edgecnn.graph.disjoint_sets import DisjointSets
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Activation,
    Add,
    ArgMax,
    Clamp,
    Div,
    Erf,
    LogSoftmax,
    Pow,
    Reshape,
    Rsqrt,
    Sigmoid,
    Sign,
    Softmax,
    Sqrt,
    Sub,
    Tanh,
    Transpose,
    ValueName,
)
from edgecnn.graph.traits import Parameters, traits_of
from edgecnn.program.integer_weights import weights_and_biases
from edgecnn.program.qparams import QParams, Range, with_exact_reciprocal
from edgecnn.program.quantized import (
    QuantizedGraph,
    constant_operands,
    extent_of,
    params_of_range,
)
from edgecnn.quantize.calibrate import CALIBRATORS
from edgecnn.quantize.checks import suspicions
from edgecnn.quantize.observer import Observer
from edgecnn.quantize.recipe import INT8, Recipe, settings_of

FIXED: Mapping[type, QParams] = MappingProxyType(
    {
        Softmax: QParams(np.float32(1 / 256), -128),
        Sigmoid: QParams(np.float32(1 / 256), -128),
        Tanh: QParams(np.float32(1 / 128), 0),
        LogSoftmax: QParams(np.float32(16 / 256), 127),
    }
)
"""Parameters of results that the specification prescribes."""
KEEP_FLOAT = 'a recipe with precision = "float" for this layer'
NO_INT8_FORM: Mapping[type, tuple[str, str]] = MappingProxyType(
    {
        Div: ("division by a computed value has no int8 form", "a multiplication, or " + KEEP_FLOAT),
        Sqrt: ("square roots have no int8 kernel in TFLite", KEEP_FLOAT),
        Rsqrt: ("reciprocal roots grow beyond any int8 range near 0", "batch norm, or " + KEEP_FLOAT),
        Pow: ("powers have no int8 kernel", "a square or a cube, or " + KEEP_FLOAT),
        Sign: ("signs have no int8 kernel", KEEP_FLOAT),
        Erf: ("the error function has no int8 kernel", "F.gelu, or " + KEEP_FLOAT),
        ArgMax: ("argmax gives no values to quantize", "the scores as output, and argmax on the device"),
    }
)
"""Operators without an int8 form: the reason, and what to try instead."""


def quantize(
    graph: Graph,
    observers: Mapping[ValueName, Observer],
    recipe: Recipe = INT8,
    *,
    prescribed: Mapping[ValueName, QParams] = MappingProxyType({}),
) -> QuantizedGraph:
    """Quantize a graph to int8 by ranges observed on calibration data.

    Args:
        graph: The graph, prepared by :func:`edgecnn.quantize.prepare.prepare`.
        observers: The observer of each value.
        recipe: One of :data:`~edgecnn.quantize.recipe.RECIPES`, or from :func:`~edgecnn.quantize.recipe.load_recipe`.
        prescribed: Parameters of inputs that do not come from calibration; values that share them get them too.

    Raises:
        UsageError: if an override of the recipe matches no layer.
        QuantizationError: if an operator has no int8 form, parameters contradict, or weights or biases do not fit.
    """
    settings = settings_of(recipe, graph)
    notes = list(suspicions(graph, observers))
    ranges = {name: CALIBRATORS[s.calibrator](observers[name]) for name, s in settings.items()}
    skipped = float_nodes(graph, frozenset(name for name, s in settings.items() if s.skip))
    groups = _shared(graph, skipped, recipe.portable, notes)
    symmetric = {groups.root(name) for name, s in settings.items() if s.symmetric}
    activations = _activations(graph, ranges, skipped, groups, symmetric)
    for value, params in prescribed.items():
        activations |= {name: params for name in activations if groups.root(name) == groups.root(value)}
    weights, biases = weights_and_biases(
        graph, activations, skipped, recipe.weight_limit, notes, linear_scales=recipe.linear_scales
    )
    return QuantizedGraph(
        graph=graph,
        activations=activations,
        weights=weights,
        biases=biases,
        skipped=skipped,
        weight_limit=recipe.weight_limit,
        uint8_weights=recipe.uint8_weights,
        notes=tuple(notes),
    )


def float_nodes(graph: Graph, chosen: frozenset[ValueName]) -> frozenset[ValueName]:
    """The nodes that stay float. Reshapes and transposes are float if their input is, whatever the recipe chose.

    Raises:
        QuantizationError: if an operator without an int8 form is not to stay float.
    """
    skipped: set[ValueName] = set()
    for node in graph.nodes:
        if isinstance(node.op, Reshape | Transpose):
            skipped.update([node.name] if node.inputs[0] in skipped else [])
        elif node.name in chosen and not isinstance(node.op, ArgMax):
            skipped.add(node.name)
        elif type(node.op) in NO_INT8_FORM:
            reason, hint = NO_INT8_FORM[type(node.op)]
            raise QuantizationError(f"{node.describe()}: {reason}", hint=hint)
    return frozenset(skipped)


def _shared(graph: Graph, skipped: frozenset[ValueName], portable: bool, notes: list[str]) -> DisjointSets[ValueName]:
    """The sets of values that share their parameters."""
    groups = DisjointSets[ValueName]()
    for node in graph.nodes:
        if node.name not in skipped and traits_of(node.op).parameters is Parameters.OF_INPUT:
            groups.join(node.name, node.inputs[0])
    for node in graph.nodes:
        if node.name not in skipped and traits_of(node.op).joins_parameters:
            _join_parts(graph, groups, node, skipped)
    if not portable:
        return groups
    fixed = {groups.root(n.name): n for n in graph.nodes if type(n.op) in FIXED and n.name not in skipped}
    for node in graph.nodes:
        if node.name in skipped or not isinstance(node.op, Add | Sub):
            continue
        prescribed = next((fixed[r] for v in (*node.inputs, node.name) if (r := groups.root(v)) in fixed), None)
        if prescribed is not None:
            notes.append(
                f"{node.describe()} does not share its parameters, because those of {prescribed.describe()} are"
                " prescribed: runtimes may differ there by 1"
            )
            continue
        for x in node.inputs:
            groups.join(node.name, x)
    return groups


def _join_parts(graph: Graph, groups: DisjointSets[ValueName], node: Node, skipped: frozenset[ValueName]) -> None:
    """Let an operator share parameters with its inputs; prescribed ones only if they are equal for all inputs."""
    fixed = {
        groups.root(n.name): FIXED[type(n.op)] for n in graph.nodes if type(n.op) in FIXED and n.name not in skipped
    }
    equal = len({fixed.get(groups.root(x)) for x in node.inputs}) == 1
    for x in node.inputs:
        if equal or groups.root(x) not in fixed:
            groups.join(node.name, x)


def _activations(
    graph: Graph,
    ranges: Mapping[ValueName, Range],
    skipped: frozenset[ValueName],
    groups: DisjointSets[ValueName],
    symmetric: set[ValueName],
) -> dict[ValueName, QParams]:
    found: dict[ValueName, QParams] = {}
    nodes = [n for n in graph.nodes if n.name not in skipped]
    fixed = {groups.root(n.name): (n, FIXED[type(n.op)]) for n in nodes if type(n.op) in FIXED}
    fed = {groups.root(i.name) for i in graph.inputs}
    spans: dict[ValueName, Range] = {}
    values = {i.name: ranges[i.name] for i in graph.inputs}
    values |= {n.name: _clamped(n, ranges[n.name]) for n in graph.nodes}
    values |= {name: extent_of(graph.constants[name]) for n in nodes for name in constant_operands(graph, n)}
    for name, (low, high) in values.items():
        before = spans.get(groups.root(name), (low, high))
        spans[groups.root(name)] = min(before[0], low), max(before[1], high)
    for name in values:
        root = groups.root(name)
        found[name] = fixed[root][1] if root in fixed else params_of_range(name, spans[root], root in symmetric)
        if root in fed and root not in fixed:
            found[name] = with_exact_reciprocal(found[name])
    for root, (node, params) in fixed.items():
        low, high = spans[root]
        if high > params.high + float(params.scale) or low < params.low - float(params.scale):
            raise QuantizationError(
                f"{node.describe()} has prescribed parameters, and shares them with values of {low:.3g} to {high:.3g}",
                hint="concatenate before the activation, not after it",
            )
    return found


def _clamped(node: Node, observed: Range) -> Range:
    """A value's observed range, limited to the bounds of its operator's activation or clamp."""
    activation: Activation = getattr(node.op, "activation", Activation.NONE)
    low, high = (node.op.low, node.op.high) if isinstance(node.op, Clamp) else activation.bounds
    return max(observed[0], low), min(observed[1], high)
