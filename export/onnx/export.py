"""A graph as an ONNX file."""

from __future__ import annotations

from edgecnn.errors import UsageError
from edgecnn.export.lowering import lower_all
from edgecnn.export.onnx.int8.depthwise import adapt_depthwise
from edgecnn.export.onnx.int8.exact import LOWERINGS as IN_INTEGERS
from edgecnn.export.onnx.int8.exact import ExactFloatWriter
from edgecnn.export.onnx.legalize import RULES
from edgecnn.export.onnx.lower import LOWERINGS
from edgecnn.export.onnx.write import DEFAULT_OPSET, OLDEST_OPSET, OnnxWriter, newest_opset
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
    _check_opset(opset)
    graph = apply_rules(graph, RULES)
    writer = OnnxWriter(graph, opset)
    lower_all(graph, writer, LOWERINGS, "ONNX")
    return writer.finish(version=version)


def export_onnx_int8(
    quantized: QuantizedGraph, *, version: str, opset: int = DEFAULT_OPSET, io: str = "float32"
) -> Written:
    """Write a quantized graph as ONNX with QuantizeLinear and DequantizeLinear pairs; see :func:`export_onnx`.

    Inputs and outputs are ``io``: float32, int8 (the integers themselves), or uint8 (those plus 128).
    """
    _check_opset(opset)
    adapted = adapt_depthwise(follow(quantized, apply_rules(quantized.graph, RULES)))
    graph = adapted.quantized.graph
    writer = ExactFloatWriter(graph, opset, adapted.quantized, io, adapted.channels)
    lower_all(graph, writer, IN_INTEGERS, "ONNX")
    return writer.finish(version=version)


def _check_opset(opset: int) -> None:
    if not OLDEST_OPSET <= opset <= newest_opset():
        raise UsageError(
            f"opset {opset} cannot be written",
            hint=f"an opset from {OLDEST_OPSET} to {newest_opset()}; {DEFAULT_OPSET} runs nearly everywhere",
        )
