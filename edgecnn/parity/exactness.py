"""Which quantized graphs give bit-identical results in every runtime."""

from __future__ import annotations

from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Add, Sub
from edgecnn.graph.traits import traits_of
from edgecnn.program.quantized import QuantizedGraph


def is_exact(quantized: QuantizedGraph) -> bool:
    """Whether LiteRT (XNNPACK) and ONNX Runtime compute every operator of the graph with identical results."""
    return all(node_is_exact(quantized, node) for node in quantized.graph.nodes)


def node_is_exact(quantized: QuantizedGraph, node: Node) -> bool:
    """Whether all runtimes compute a node with identical results.

    An addition is exact if its three values share their parameters: it is then an integer addition. Layers that a
    recipe leaves in float are not exact: their sums may differ in the last bit.
    """
    if node.name in quantized.skipped:
        return False
    if isinstance(node.op, Add | Sub):
        return len({quantized.activations[v] for v in (*node.inputs, node.name)}) == 1
    return traits_of(node.op).exact
