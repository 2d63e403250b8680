"""A graph as a TFLite file."""

from __future__ import annotations

from edgecnn.export.lowering import lower_all
from edgecnn.export.tflite.legalize import legalize
from edgecnn.export.tflite.lower import LOWERINGS
from edgecnn.export.tflite.mixed import LOWERINGS as MIXED
from edgecnn.export.tflite.mixed import MixedInt8Writer
from edgecnn.export.tflite.write import TfliteWriter
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.program.quantized import QuantizedGraph, follow


def export_tflite(graph: Graph, *, version: str) -> Written:
    """Write a float32 graph as one TFLite model with the signature ``serving_default``.

    Args:
        graph: The graph. Where its batch is free, inputs and outputs have a batch axis that can be resized.
        version: What is noted as the producer's version.

    Raises:
        LoweringError: if TFLite cannot express the graph.
    """
    graph = legalize(graph)
    writer = TfliteWriter(graph)
    lower_all(graph, writer, LOWERINGS, "TFLite")
    return writer.finish(version=version)


def export_tflite_int8(quantized: QuantizedGraph, *, version: str, io: str = "float32") -> Written:
    """Write a quantized graph as an int8 TFLite model; see :func:`export_tflite`.

    Inputs and outputs are ``io``: float32, int8 (the integers themselves), or uint8 (those plus 128).
    """
    graph = legalize(quantized.graph, quantized.same_storage)
    writer = MixedInt8Writer(graph, follow(quantized, graph), io)
    lower_all(graph, writer, MIXED, "TFLite")
    return writer.finish(version=version)
