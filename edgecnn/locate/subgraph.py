"""Some nodes of a program as a program of their own, fed with the values that they read in the whole."""

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
class Subgraph:
    """Some nodes of a graph as a graph of its own, and their integers where it is quantized."""

    graph: Graph
    quantized: QuantizedGraph | None

    @property
    def nodes(self) -> tuple[ValueName, ...]:
        """The nodes' names."""
        return tuple(n.name for n in self.graph.nodes)


def subgraph_of(graph: Graph, quantized: QuantizedGraph | None, names: Collection[ValueName]) -> Subgraph:
    """Some nodes of a graph as a graph of their own.

    Values of other nodes that they read become its inputs, under their own names. Values of theirs that other nodes or
    the graph's outputs read become its outputs.

    Raises:
        GraphError: if they make no graph, since they read no computed value.
    """
    nodes = tuple(n for n in graph.nodes if n.name in names)
    reads = dict.fromkeys(i for n in nodes for i in n.inputs)
    inputs = tuple(Input(i, graph.shapes[i]) for i in reads if i not in graph.constants and i not in names)
    wanted = {o.value for o in graph.outputs} | {i for n in graph.nodes if n.name not in names for i in n.inputs}
    given = [n.name for n in nodes if n.name in wanted]
    constants = {i: graph.constants[i] for i in reads if i in graph.constants}
    subgraph = verify(
        Graph(
            inputs=inputs,
            nodes=nodes,
            outputs=tuple(Output(name, value) for name, value in zip(_names(graph, len(given)), given, strict=True)),
            constants=MappingProxyType(constants),
        )
    )
    return Subgraph(subgraph, None if quantized is None else _integers(quantized, subgraph))


def expected_outputs(subgraph: Subgraph, inputs: Mapping[ValueName, Array], rule: str = "") -> dict[str, Array]:
    """The outputs that a subgraph should give for real inputs (samples, ...), by name.

    Args:
        subgraph: The subgraph.
        inputs: Its inputs, by name.
        rule: The rule of the integer reference, for int8 outputs; empty for float outputs.
    """
    given = [inputs[i.name] for i in subgraph.graph.inputs]
    if not rule:
        from edgecnn.golden.batches import execute_samples

        values = execute_samples(subgraph.graph, given)
        return {o.name: np.ascontiguousarray(values[o.value]) for o in subgraph.graph.outputs}
    from edgecnn.golden.float_layers import as_integers

    q = subgraph.quantized
    assert q is not None
    integers = [q.activations[i.name].quantize(a) for i, a in zip(q.graph.inputs, given, strict=True)]
    found = run_integers(q, integers, rule)
    return {o.name: np.ascontiguousarray(as_integers(q, o.value, found[o.value])) for o in q.graph.outputs}


def resizable(subgraph: Subgraph) -> bool:
    """Whether files of the subgraph take a batch of any size."""
    return batch_is_free(subgraph.graph)


def _names(graph: Graph, count: int) -> list[str]:
    """Names for outputs that no value of the graph has."""
    stem = "output"
    while any(f"{stem}{i}" in graph.shapes for i in ("", *range(count))):
        stem += "_"
    return [stem] if count == 1 else [f"{stem}{i}" for i in range(count)]


def _integers(q: QuantizedGraph, subgraph: Graph) -> QuantizedGraph:
    return replace(
        q,
        graph=subgraph,
        activations={name: p for name, p in q.activations.items() if name in subgraph.shapes},
        weights={name: w for name, w in q.weights.items() if name in subgraph.constants},
        biases={name: b for name, b in q.biases.items() if name in subgraph.producers},
        skipped=q.skipped & set(subgraph.producers),
        notes=(),
    )
