"""fp16 in ONNX: weights as float16 initializers, each cast to float32; arithmetic and io are float32.

ONNX Runtime folds the casts when it loads the file. Biases and constant operands are small, and stay float32.
"""

from __future__ import annotations

import onnx

from edgecnn.export.onnx.file import OnnxFile
from edgecnn.export.onnx.legalize import RULES
from edgecnn.export.onnx.lower import LOWERINGS
from edgecnn.export.onnx.write import DEFAULT_OPSET, check_opset, write_float
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
    check_opset(opset)
    return write_float(apply_rules(graph, RULES), opset, LOWERINGS, version=version, weights=HalfWeights)


class HalfWeights:
    """Reads float16 weights, each through one Cast, however many layers read it."""

    def __init__(self, file: OnnxFile) -> None:
        self._file = file
        self._layers = weighted_nodes(file.graph)
        self._cast: set[str] = set()
        file.notes.extend(half_notes(file.graph))

    def __call__(self, value: ValueName, transposed: bool) -> str:
        """The float32 tensor that is cast from a layer's float16 weights."""
        name = f"{value}.T" if transposed else value
        if name not in self._cast:
            self._cast.add(name)
            half = to_half(self._layers[value], self._file.graph.constants[value])
            stored = self._file.initializer(f"{name}.fp16", half.T if transposed else half)
            self._file.node("Cast", [stored], f"{name}.fp32", to=onnx.TensorProto.FLOAT)
        return f"{name}.fp32"
