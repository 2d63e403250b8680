"""A part of a program: some of its nodes, fed with what the whole gives there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgecnn.graph.graph import Graph, Input, Output
from edgecnn.graph.ops import ValueName
from edgecnn.graph.verify import batch_is_free, verify
from edgecnn.locate.execute import run_integers
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.types import Array


@dataclass(frozen=True, slots=True)
class Part:
    """Some nodes of a graph as a graph of its own, and their integers where it is quantized."""

    graph: Graph
    quantized: QuantizedGraph | None

    @property
    def nodes(self) -> tuple[ValueName, ...]:
        """The nodes' names."""
        return tuple(n.name for n in self.graph.nodes)


def part_of(graph: Graph, quantized: QuantizedGraph | None, names: Collection[ValueName]) -> Part:
    """The part of a graph that these nodes are.

    What they read of others becomes its inputs, under the same names; what others, or the whole's outputs, read of them
    becomes its outputs.

    Raises:
        GraphError: if no graph can be made of them: they read no computed value.
    """
    nodes = tuple(n for n in graph.nodes if n.name in names)
    reads = dict.fromkeys(i for n in nodes for i in n.inputs)
    inputs = tuple(Input(i, graph.shapes[i]) for i in reads if i not in graph.constants and i not in names)
    wanted = {o.value for o in graph.outputs} | {i for n in graph.nodes if n.name not in names for i in n.inputs}
    given = [n.name for n in nodes if n.name in wanted]
    constants = {i: graph.constants[i] for i in reads if i in graph.constants}
    part = verify(
        Graph(
            inputs=inputs,
            nodes=nodes,
            outputs=tuple(Output(name, value) for name, value in zip(_names(graph, len(given)), given, strict=True)),
            constants=MappingProxyType(constants),
        )
    )
    return Part(part, None if quantized is None else _integers(quantized, part))


def expected_outputs(part: Part, inputs: Mapping[ValueName, Array], rule: str = "") -> dict[str, Array]:
    """What the part is to say to real inputs (samples, ...), by output.

    Args:
        part: The part.
        inputs: By name.
        rule: In float where empty; else the rule of the integer reference, and the outputs are int8.
    """
    given = [inputs[i.name] for i in part.graph.inputs]
    if not rule:
        from edgecnn.golden.batches import execute_samples

        values = execute_samples(part.graph, given)
        return {o.name: np.ascontiguousarray(values[o.value]) for o in part.graph.outputs}
    from edgecnn.golden.float_layers import as_integers

    q = part.quantized
    assert q is not None
    integers = [q.activations[i.name].quantize(a) for i, a in zip(q.graph.inputs, given, strict=True)]
    found = run_integers(q, integers, rule)
    return {o.name: np.ascontiguousarray(as_integers(q, o.value, found[o.value])) for o in q.graph.outputs}


def resizable(part: Part) -> bool:
    """Whether the part's files take any batch."""
    return batch_is_free(part.graph)


def _names(graph: Graph, count: int) -> list[str]:
    """Names of outputs that no value has."""
    stem = "output"
    while any(f"{stem}{i}" in graph.shapes for i in ("", *range(count))):
        stem += "_"
    return [stem] if count == 1 else [f"{stem}{i}" for i in range(count)]


def _integers(q: QuantizedGraph, part: Graph) -> QuantizedGraph:
    return replace(
        q,
        graph=part,
        activations={name: p for name, p in q.activations.items() if name in part.shapes},
        weights={name: w for name, w in q.weights.items() if name in part.constants},
        biases={name: b for name, b in q.biases.items() if name in part.producers},
        skipped=q.skipped & set(part.producers),
        notes=(),
    )
