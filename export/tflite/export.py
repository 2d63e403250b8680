"""A graph as a TFLite file."""

from __future__ import annotations

from edgecnn.export.lowering import lower_all
from edgecnn.export.tflite.legalize import RULES
from edgecnn.export.tflite.lower import LOWERINGS
from edgecnn.export.tflite.write import TfliteWriter
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.rewrite import apply_rules


def export_tflite(graph: Graph, *, version: str) -> Written:
    """Write a float32 graph as one TFLite model with the signature ``serving_default``.

    Args:
        graph: The graph. Where its batch is free, inputs and outputs have a batch axis that can be resized.
        version: What is noted as the producer's version.

    Raises:
        LoweringError: if TFLite cannot express the graph.
    """
    graph = apply_rules(graph, RULES)
    writer = TfliteWriter(graph)
    lower_all(graph, writer, LOWERINGS, "TFLite")
    return writer.finish(version=version)
