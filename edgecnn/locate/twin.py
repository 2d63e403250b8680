"""What an artifact was to be: the program exported anew, with the places where a file of its kind holds values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgecnn.bundle import Artifact, Program
from edgecnn.errors import EdgecnnError
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.graph.rewrite import apply_rules
from edgecnn.quantize.quantize import QuantizedGraph, follow

LOCATED = ("fp32", "fp16", "int8")
"""Precisions whose program a bundle holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """An artifact exported anew from its bundle's program.

    Attributes:
        form: Its format.
        precision: Its precision.
        graph: The graph as the format has it: what the file computes, operator by operator.
        quantized: The integers of that graph; None in float.
        written: The file as it should be.
    """

    form: str
    precision: str
    graph: Graph
    quantized: QuantizedGraph | None
    written: Written


def make_twin(artifact: Artifact, program: Program, data: bytes, *, version: str) -> Twin:
    """Export an artifact anew.

    Args:
        artifact: The artifact.
        program: Its bundle's program.
        data: The artifact's bytes, of which an ONNX file's opset is taken.
        version: The edgecnn version that the bundle was exported by.

    Raises:
        EdgecnnError: if the bundle does not hold the program of this precision or format, or it cannot be exported.
    """
    form, precision = artifact.format, artifact.precision
    if form not in ("onnx", "tflite") or precision not in LOCATED:
        raise EdgecnnError(f"layers of {precision} {form} files are not looked at", hint=f"one of {', '.join(LOCATED)}")
    if precision == "int8" and program.quantized is None:
        raise EdgecnnError("the bundle holds no int8 program", hint="export the model again")
    quantized, graph = None, program.graph
    if precision == "int8" and program.quantized is not None:
        graph = _legal(program.quantized.graph, form, program.quantized.alike)
        quantized = follow(program.quantized, graph)
    elif precision == "fp16":
        from edgecnn.quantize.half import half_weights

        graph = _legal(half_weights(graph), form)
    else:
        graph = _legal(graph, form)
    written = _write(artifact, program, version, _opset(data) if form == "onnx" else 0)
    return Twin(form=form, precision=precision, graph=graph, quantized=quantized, written=written)


def _legal(graph: Graph, form: str, alike: Callable[[ValueName, ValueName], bool] | None = None) -> Graph:
    if form == "onnx":
        from edgecnn.export.onnx.legalize import RULES

        return apply_rules(graph, RULES)
    from edgecnn.export.tflite.legalize import legalize

    return legalize(graph, alike)


def _write(artifact: Artifact, program: Program, version: str, opset: int) -> Written:
    spec = artifact.spec.quantization
    io = "float32" if spec is None else spec.io
    match artifact.format, artifact.precision:
        case "onnx", "int8":
            from edgecnn.export.onnx.export import export_onnx_int8

            assert program.quantized is not None
            return export_onnx_int8(program.quantized, version=version, opset=opset, io=io)
        case "onnx", "fp16":
            from edgecnn.export.onnx.fp16 import export_onnx_fp16

            return export_onnx_fp16(program.graph, version=version, opset=opset)
        case "onnx", _:
            from edgecnn.export.onnx.export import export_onnx

            return export_onnx(program.graph, version=version, opset=opset)
        case _, "int8":
            from edgecnn.export.tflite.export import export_tflite_int8

            assert program.quantized is not None
            return export_tflite_int8(program.quantized, version=version, io=io)
        case _, "fp16":
            from edgecnn.export.tflite.fp16 import export_tflite_fp16

            return export_tflite_fp16(program.graph, version=version)
    from edgecnn.export.tflite.export import export_tflite

    return export_tflite(program.graph, version=version)


def _opset(data: bytes) -> int:
    from edgecnn.export.onnx.write import DEFAULT_OPSET
    from edgecnn.locate.edit_onnx import parsed

    return next((int(o.version) for o in parsed(data).opset_import if not o.domain), DEFAULT_OPSET)
