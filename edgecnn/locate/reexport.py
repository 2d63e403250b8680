"""What an artifact was to be: the program exported anew, with the places where a file of its kind holds values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecnn.bundle import Artifact, Program
from edgecnn.errors import EdgecnnError
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.graph.rewrite import apply_rules
from edgecnn.program.quantized import QuantizedGraph, follow
from edgecnn.program.quantized16 import QuantizedGraph16, follow_int16


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """An artifact exported anew from its bundle's program.

    Attributes:
        form: Its format.
        precision: Its precision.
        graph: The graph as the format has it: what the file computes, operator by operator.
        quantized: The int8 integers of that graph; None of other precisions.
        int16: The same of int16x8.
        written: The file as it should be.
    """

    form: str
    precision: str
    graph: Graph
    quantized: QuantizedGraph | None
    written: Written
    int16: QuantizedGraph16 | None = None


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
    if (form, precision) not in WRITERS:
        raise EdgecnnError(f"layers of {precision} {form} files are not looked at")
    written = WRITERS[form, precision](program, _options(artifact, version, data))
    quantized, int16, graph = None, None, program.graph
    if precision == "int8":
        int8 = _int8(program)
        graph = _legal(int8.graph, form, int8.same_storage)
        quantized = follow(int8, graph)
    elif precision == "int16x8":
        wide = _int16(program)
        graph = _legal(wide.graph, form, wide.same_storage)
        int16 = follow_int16(wide, graph)
    elif precision == "fp16":
        from edgecnn.program.half_weights import half_weights

        graph = _legal(half_weights(graph), form)
    else:
        graph = _legal(graph, form)
    return Twin(form=form, precision=precision, graph=graph, quantized=quantized, written=written, int16=int16)


def _legal(graph: Graph, form: str, alike: Callable[[ValueName, ValueName], bool] | None = None) -> Graph:
    if form == "onnx":
        from edgecnn.export.onnx.legalize import RULES

        return apply_rules(graph, RULES)
    from edgecnn.export.tflite.legalize import legalize

    return legalize(graph, alike)


def _int8(program: Program) -> QuantizedGraph:
    if program.quantized is None:
        raise EdgecnnError("the bundle holds no int8 program", hint="export the model again")
    return program.quantized


def _int16(program: Program) -> QuantizedGraph16:
    if program.int16 is None:
        raise EdgecnnError(
            "the bundle holds no int16x8 program",
            why="bundles hold one from this version of edgecnn on",
            hint="export the model again",
        )
    return program.int16


@dataclass(frozen=True, slots=True)
class Options:
    """How a file was written: types of inputs and outputs, the version noted in it, an ONNX file's opset."""

    io: str
    version: str
    opset: int


def _options(artifact: Artifact, version: str, data: bytes) -> Options:
    spec = artifact.spec.quantization
    io = "float32" if spec is None else spec.io
    return Options(io=io, version=version, opset=_opset(data) if artifact.format == "onnx" else 0)


def _onnx(program: Program, o: Options) -> Written:
    from edgecnn.export.onnx.export import export_onnx

    return export_onnx(program.graph, version=o.version, opset=o.opset)


def _onnx_fp16(program: Program, o: Options) -> Written:
    from edgecnn.export.onnx.fp16 import export_onnx_fp16

    return export_onnx_fp16(program.graph, version=o.version, opset=o.opset)


def _onnx_int8(program: Program, o: Options) -> Written:
    from edgecnn.export.onnx.export import export_onnx_int8

    return export_onnx_int8(_int8(program), version=o.version, opset=o.opset, io=o.io)


def _tflite(program: Program, o: Options) -> Written:
    from edgecnn.export.tflite.export import export_tflite

    return export_tflite(program.graph, version=o.version)


def _tflite_fp16(program: Program, o: Options) -> Written:
    from edgecnn.export.tflite.fp16 import export_tflite_fp16

    return export_tflite_fp16(program.graph, version=o.version)


def _tflite_int8(program: Program, o: Options) -> Written:
    from edgecnn.export.tflite.export import export_tflite_int8

    return export_tflite_int8(_int8(program), version=o.version, io=o.io)


def _tflite_dynamic(program: Program, o: Options) -> Written:
    from edgecnn.export.tflite.dynamic import export_tflite_int8_dynamic

    return export_tflite_int8_dynamic(program.graph, version=o.version)


def _tflite_int16x8(program: Program, o: Options) -> Written:
    from edgecnn.export.tflite.int16 import export_tflite_int16x8

    return export_tflite_int16x8(_int16(program), version=o.version)


WRITERS: Mapping[tuple[str, str], Callable[[Program, Options], Written]] = MappingProxyType(
    {
        ("onnx", "fp32"): _onnx,
        ("onnx", "fp16"): _onnx_fp16,
        ("onnx", "int8"): _onnx_int8,
        ("tflite", "fp32"): _tflite,
        ("tflite", "fp16"): _tflite_fp16,
        ("tflite", "int8"): _tflite_int8,
        ("tflite", "int8-dynamic"): _tflite_dynamic,
        ("tflite", "int16x8"): _tflite_int16x8,
    }
)
"""How a bundle's program becomes a file again, by format and precision."""


def _opset(data: bytes) -> int:
    from edgecnn.export.onnx.write import DEFAULT_OPSET
    from edgecnn.locate.edit_onnx import parsed

    return next((int(o.version) for o in parsed(data).opset_import if not o.domain), DEFAULT_OPSET)
