"""Weights as uint8, for programs that cannot set a session option: no kernel of ONNX Runtime saturates with them.

On x86 without VNNI its kernel for uint8 activations and int8 weights adds pairs of products in int16
(:mod:`edgecnn.export.onnx.int8.saturation`); the one for uint8 weights widens both to int16 first and adds in int32
(MLAS, ``GemmU8U8``). Weights plus 128 at zero point 128 are the same numbers, so the program stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

from edgecnn.export.onnx.int8.nodes import ExactConv, FileGraph
from edgecnn.export.onnx.int8.saturation import find_saturation


def weights_as_uint8(graph: FileGraph) -> FileGraph:
    """Store the weights of layers that can saturate as uint8, where the program asks for it.

    Does not apply to layers whose pairs of products cannot leave int16: kernels for int8 weights are faster with VNNI
    and on ARM. A weight that several layers read is uint8 in all of them if one can saturate.
    """
    q = graph.quantized
    if not q.uint8_weights:
        return graph
    return replace(graph, uint8_layers=frozenset(find_saturation(q, exclude=graph.of_kind(ExactConv)).risky))
