"""A graph as an ONNX file."""

from __future__ import annotations

from edgecnn.export.onnx.int8.passes import file_graph
from edgecnn.export.onnx.int8.write import write_int8
from edgecnn.export.onnx.legalize import RULES
from edgecnn.export.onnx.lower import LOWERINGS
from edgecnn.export.onnx.write import DEFAULT_OPSET, check_opset, write_float
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.rewrite import apply_rules
from edgecnn.program.quantized import QuantizedGraph, follow


def export_onnx(graph: Graph, *, version: str, opset: int = DEFAULT_OPSET) -> Written:
    """Write a float32 graph as one self-contained ONNX model, checked by ONNX's full checker.

    Args:
        graph: The graph. Where its batch is free, the batch axis is symbolic (``batch``).
        version: What is noted as the producer's version.
        opset: Opset of the default domain.

    Raises:
        UsageError: if the opset is out of range.
        LoweringError: if ONNX cannot express the graph.
    """
    check_opset(opset)
    return write_float(apply_rules(graph, RULES), opset, LOWERINGS, version=version)


def export_onnx_int8(
    quantized: QuantizedGraph, *, version: str, opset: int = DEFAULT_OPSET, io: str = "float32"
) -> Written:
    """Write a quantized graph as ONNX with QuantizeLinear and DequantizeLinear pairs; see :func:`export_onnx`.

    Inputs and outputs are ``io``: float32, int8 (the integers themselves), or uint8 (those plus 128).
    """
    check_opset(opset)
    graph = file_graph(follow(quantized, apply_rules(quantized.graph, RULES)))
    return write_int8(graph, opset, io, version=version)
