"""TFLite as a format: the descriptor that the registry holds."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from edgecnn.export.format_descriptor import Format, WriteOptions
from edgecnn.export.legal_programs import Programs, SameStorage, int8_program, int16_program

if TYPE_CHECKING:
    from edgecnn.export.editing import Editor
    from edgecnn.export.file_facts import FileFacts
    from edgecnn.export.written import Written
    from edgecnn.graph.graph import Graph


def _fp32(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.tflite.export import export_tflite

    return export_tflite(programs.graph, version=options.version)


def _fp16(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.tflite.fp16 import export_tflite_fp16

    return export_tflite_fp16(programs.graph, version=options.version)


def _int8(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.tflite.export import export_tflite_int8

    return export_tflite_int8(int8_program(programs), version=options.version, io=options.io)


def _int8_dynamic(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.tflite.dynamic import export_tflite_int8_dynamic

    return export_tflite_int8_dynamic(programs.graph, version=options.version)


def _int16x8(programs: Programs, options: WriteOptions) -> Written:
    from edgecnn.export.tflite.int16 import export_tflite_int16x8

    return export_tflite_int16x8(int16_program(programs), version=options.version)


def _legalize(graph: Graph, same_storage: SameStorage | None = None) -> Graph:
    from edgecnn.export.tflite.legalize import legalize

    return legalize(graph, same_storage)


def _options_of(data: bytes, options: WriteOptions) -> WriteOptions:  # noqa: ARG001  (TFLite has none of its own)
    return options


def _facts(data: bytes, where: str) -> FileFacts:
    from edgecnn.export.tflite.facts import facts_of

    return facts_of(data, where)


def _macs(data: bytes) -> int:
    from edgecnn.export.tflite.macs import macs_of

    return macs_of(data)


def _editor() -> Editor:
    from edgecnn.export.tflite import edit

    return edit


TFLITE = Format(
    name="tflite",
    title="TFLite",
    package="ai-edge-litert",
    mark=b"TFL3",
    writers=MappingProxyType(
        {"fp32": _fp32, "fp16": _fp16, "int8": _int8, "int8-dynamic": _int8_dynamic, "int16x8": _int16x8}
    ),
    refused=MappingProxyType({}),
    legalize=_legalize,
    options_of=_options_of,
    check_self_contained=None,
    facts=_facts,
    macs=_macs,
    editor=_editor,
)
