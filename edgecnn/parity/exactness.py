"""Which quantized graphs every runtime computes alike, bit for bit."""

from __future__ import annotations

from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Add, Sub
from edgecnn.graph.traits import traits_of
from edgecnn.program.quantized import QuantizedGraph


def is_exact(quantized: QuantizedGraph) -> bool:
    """Whether every operator of the graph is one that LiteRT (XNNPACK) and ONNX Runtime compute alike."""
    return all(node_is_exact(quantized, node) for node in quantized.graph.nodes)


def node_is_exact(quantized: QuantizedGraph, node: Node) -> bool:
    """Additions are exact where all three values share their parameters, for then they are integer additions.

    Layers that a recipe leaves in float are not: their sums may differ in the last bit.
    """
    if node.name in quantized.skipped:
        return False
    if isinstance(node.op, Add | Sub):
        return len({quantized.activations[v] for v in (*node.inputs, node.name)}) == 1
    return traits_of(node.op).exact
