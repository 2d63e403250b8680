"""The passes that make the graph of an int8 ONNX file from a quantized graph. The program itself stays as it is."""

from __future__ import annotations

from collections.abc import Callable

from edgecnn.export.onnx.int8.channels_last import images_as_stored
from edgecnn.export.onnx.int8.depthwise import depthwise_in_quick_forms
from edgecnn.export.onnx.int8.exact import exact_float_convolutions, pooled_accumulators, widened_accumulators
from edgecnn.export.onnx.int8.folding import folded_convolutions
from edgecnn.export.onnx.int8.nodes import FileGraph, plain_file_graph
from edgecnn.export.onnx.int8.uint8_weights import weights_as_uint8
from edgecnn.program.quantized import QuantizedGraph

PASSES: tuple[Callable[[FileGraph], FileGraph], ...] = (
    depthwise_in_quick_forms,
    folded_convolutions,
    exact_float_convolutions,
    weights_as_uint8,
    pooled_accumulators,
    widened_accumulators,
    images_as_stored,
)
"""In this order: folding sees dense depthwise layers, exact float leaves folded layers alone, and what saturates is
asked of the weights as they are before channels of zeros widen them."""


def file_graph(q: QuantizedGraph) -> FileGraph:
    """The graph that the int8 ONNX file of a quantized graph holds."""
    graph = plain_file_graph(q)
    for step in PASSES:
        graph = step(graph)
    return graph
