"""ONNX as a format: the descriptor that the registry holds."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgecnn.export.format_descriptor import Format, Refusal, WriteOptions
from edgecnn.export.legal_programs import Programs, SameStorage, int8_program

if TYPE_CHECKING:
    from edgecnn.export.editing import Editor
    from edgecnn.export.file_facts import FileFacts
    from edgecnn.export.written import Written
    from edgecnn.graph.graph import Graph


def _opset(options: WriteOptions) -> int:
    from edgecnn.export.onnx.write import DEFAULT_OPSET

    return DEFAULT_OPSET if options.opset is None else options.opset


def _fp32(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.onnx.export import export_onnx

    return export_onnx(programs.graph, version=options.version, opset=_opset(options))


def _fp16(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.onnx.fp16 import export_onnx_fp16

    return export_onnx_fp16(programs.graph, version=options.version, opset=_opset(options))


def _int8(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.onnx.export import export_onnx_int8

    return export_onnx_int8(int8_program(programs), version=options.version, opset=_opset(options), io=options.io)


def _legalize(graph: Graph, same_storage: SameStorage | None = None) -> Graph:  # noqa: ARG001  (no rule depends on it)
    from edgecnn.export.onnx.legalize import RULES
    from edgecnn.graph.rewrite import apply_rules

    return apply_rules(graph, RULES)


def _options_of(data: bytes, options: WriteOptions) -> WriteOptions:
    from edgecnn.export.onnx.parse import opset_of

    return replace(options, opset=opset_of(data))


def _check_self_contained(data: bytes, where: str) -> None:
    from edgecnn.export.onnx.wire import check_self_contained

    check_self_contained(data, where=where)


def _facts(data: bytes, where: str) -> FileFacts:
    from edgecnn.export.onnx.facts import facts_of

    return facts_of(data, where)


def _macs(data: bytes) -> int | None:
    from edgecnn.export.onnx.macs import macs_of

    return macs_of(data)


def _editor() -> Editor:
    from edgecnn.export.onnx import edit

    return edit


ONNX = Format(
    name="onnx",
    title="ONNX",
    package="onnx",
    options=("opset",),
    writers=MappingProxyType({"fp32": _fp32, "fp16": _fp16, "int8": _int8}),
    refused=MappingProxyType(
        {
            "int8-dynamic": Refusal(
                "ONNX Runtime takes about 1.5 (lenet5) to 2.4 times (resnet8) as long as in float: ConvInteger is slow",
                "int8 for speed, fp16 for a smaller file, or --formats tflite",
            ),
            "int16x8": Refusal(
                "ONNX Runtime's QLinearConv takes no int16: it would compute such a file in float",
                "fp16, int8, or --formats tflite",
            ),
        }
    ),
    legalize=_legalize,
    options_of=_options_of,
    check_self_contained=_check_self_contained,
    facts=_facts,
    macs=_macs,
    editor=_editor,
)
