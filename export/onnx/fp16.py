"""fp16 in ONNX: weights as float16 initializers, each cast to float32; arithmetic and io are float32.

ONNX Runtime folds the casts when it loads the file. Biases and constant operands are small, and stay float32.
"""

from __future__ import annotations

import onnx

from edgecnn.export.lowering import lower_all
from edgecnn.export.onnx.export import _check_opset
from edgecnn.export.onnx.legalize import RULES
from edgecnn.export.onnx.lower import LOWERINGS
from edgecnn.export.onnx.write import DEFAULT_OPSET, OnnxWriter
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.graph.rewrite import apply_rules
from edgecnn.program.half_weights import half_notes, to_half, weighted_nodes


def export_onnx_fp16(graph: Graph, *, version: str, opset: int = DEFAULT_OPSET) -> Written:
    """Write a float32 graph as ONNX with float16 weights; see :func:`~edgecnn.export.onnx.export.export_onnx`.

    What it computes is :func:`~edgecnn.program.half_weights.half_weights` of the graph, in float32.

    Raises:
        QuantizationError: if a weight does not fit float16.
    """
    _check_opset(opset)
    graph = apply_rules(graph, RULES)
    writer = Fp16Writer(graph, opset)
    lower_all(graph, writer, LOWERINGS, "ONNX")
    return writer.finish(version=version)


class Fp16Writer(OnnxWriter):
    """The float writer with float16 weights, each behind one Cast however many layers read it."""

    def __init__(self, graph: Graph, opset: int) -> None:
        super().__init__(graph, opset)
        self._layers = weighted_nodes(graph)
        self._cast: set[str] = set()
        self._notes.extend(half_notes(graph))

    def weights(self, value: ValueName, *, transposed: bool = False) -> str:
        """The float32 tensor that is cast from a layer's float16 weights."""
        name = f"{value}.T" if transposed else value
        if name not in self._cast:
            self._cast.add(name)
            half = to_half(self._layers[value], self.graph.constants[value])
            stored = self.initializer(f"{name}.fp16", half.T if transposed else half)
            self.node("Cast", [stored], f"{name}.fp32", to=onnx.TensorProto.FLOAT)
        return f"{name}.fp32"
