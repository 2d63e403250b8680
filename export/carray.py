"""A TFLite model as C source: an array to link into firmware, and a header with what the firmware must know of it.

Both files are C++17; the header is C99 too. Names of tensors and labels are strings in them, never identifiers.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecnn.errors import UsageError

C_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "bool": "bool",
        "float32": "float",
        "int8": "int8_t",
        "int16": "int16_t",
        "int32": "int32_t",
        "int64": "int64_t",
        "uint8": "uint8_t",
    }
)
"""C's name of each type that an input or output can have."""
BYTES_PER_LINE = 16
MAX_IDENTIFIER = 40
"""With what is appended, C's 63 significant characters are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CTensor:
    """An input or output.

    Attributes:
        name: Its name, of any characters.
        shape: Its sizes as stored.
        dtype: numpy's name of a type in ``C_TYPES``.
        scale: Of integers that stand for ``scale * (integer - zero_point)``; None for others.
        zero_point: See ``scale``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in C_TYPES:
            raise UsageError(f"{self.name}: {self.dtype} has no C type", hint=f"one of {', '.join(C_TYPES)}")


def identifier(name: str) -> str:
    """A C identifier from any name, and the stem of the files: ``my-net 2`` is ``my_net_2``, ``8x8`` is ``model_8x8``.

    Underscores do not lead, trail or repeat, since such names are reserved. At most ``MAX_IDENTIFIER`` characters.
    """
    words = re.findall("[A-Za-z0-9]+", name)
    if not words or words[0][0].isdigit():
        words.insert(0, "model")
    return "_".join(words)[:MAX_IDENTIFIER].rstrip("_")


def carray(
    data: bytes,
    name: str,
    *,
    arena_bytes: int | None,
    inputs: Sequence[CTensor],
    outputs: Sequence[CTensor],
    labels: Sequence[str] = (),
) -> tuple[str, str]:
    """A TFLite file as the texts of ``NAME.h`` and ``NAME.cc``, where NAME is :func:`identifier` of the name.

    Args:
        data: The file.
        name: The model's name.
        arena_bytes: What TFLite Micro reports for this file; None where it was not asked, and then no number is given.
        inputs: The inputs, in the file's order; see :func:`tensors_of`.
        outputs: The outputs.
        labels: Names of the classes; none are written where there are none.

    Raises:
        UsageError: if the data is no TFLite file, or the arena has no size.
    """
    if data[4:8] != b"TFL3":
        raise UsageError(f"{name}: the data is no TFLite file", why=f"it begins with {data[:8]!r}")
    if arena_bytes is not None and arena_bytes < 1:
        raise UsageError(f"{name}: an arena of {arena_bytes} bytes")
    prefix = identifier(name)
    ports = [*_numbered("input", inputs), *_numbered("output", outputs)]
    header = [
        *_origin(data, name),
        f"#ifndef EDGECNN_{prefix.upper()}_H_",
        f"#define EDGECNN_{prefix.upper()}_H_",
        "",
        "#include <stdbool.h>",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        *_arena(prefix.upper(), arena_bytes),
        "",
        *(line for port, tensor in ports for line in _port_macros(f"{prefix.upper()}_{port.upper()}", tensor)),
        *([f"#define {prefix.upper()}_LABEL_COUNT {len(labels)}", ""] if labels else []),
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *_declarations(prefix, ports, labels),
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        f"#endif  // EDGECNN_{prefix.upper()}_H_",
    ]
    source = [*_origin(data, name), f'#include "{prefix}.h"', "", *_definitions(prefix, data, ports, labels)]
    return "\n".join(header) + "\n", "\n".join(source) + "\n"


def tensors_of(data: bytes) -> tuple[tuple[CTensor, ...], tuple[CTensor, ...]]:
    """The inputs and outputs of a TFLite file, named as its signature names them."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph, signatures = model.subgraphs[0], model.signatureDefs or []
    names = {m.tensorIndex: m.name for s in signatures[:1] for m in [*s.inputs, *s.outputs]}
    types = {getattr(schema.TensorType, dtype.upper()): dtype for dtype in C_TYPES}

    def described(index: int) -> CTensor:
        tensor = graph.tensors[index]
        return CTensor(
            name=(names.get(index) or tensor.name or b"").decode(),
            shape=tuple(int(n) for n in tensor.shape),
            dtype=types.get(tensor.type, f"TFLite's type {tensor.type}"),
            **_quantization(tensor.quantization),
        )

    return tuple(described(i) for i in graph.inputs), tuple(described(i) for i in graph.outputs)


def _quantization(table: Any) -> dict[str, Any]:
    if table is None or table.scale is None or len(table.scale) == 0:
        return {}
    return {"scale": float(table.scale[0]), "zero_point": int(table.zeroPoint[0])}


def _numbered(kind: str, tensors: Iterable[CTensor]) -> list[tuple[str, CTensor]]:
    return [(f"{kind}_{i}", tensor) for i, tensor in enumerate(tensors)]


def _origin(data: bytes, name: str) -> list[str]:
    return [
        "// Written by edgecnn; do not edit.",
        f"// {_string(name)}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}",
        "",
    ]


def _arena(prefix: str, arena_bytes: int | None) -> list[str]:
    if arena_bytes is None:
        return [
            f"// {prefix}_ARENA_BYTES is not given, since TFLite Micro was not there to tell: export again after",
            "//   python -m pip install --pre tflite-micro pyyaml bitarray",
            "// or print MicroInterpreter::arena_used_bytes() on the device.",
        ]
    return [
        "// What TFLite Micro reports with its reference kernels on a 64-bit machine. A 32-bit one needs less for",
        "// pointers; optimised kernels may need more, for scratch memory. On the device itself",
        "// MicroInterpreter::arena_used_bytes() tells.",
        f"#define {prefix}_ARENA_BYTES {arena_bytes}",
    ]


def _port_macros(prefix: str, tensor: CTensor) -> Iterator[str]:
    yield f"// {_string(tensor.name)}: {tensor.dtype} ({', '.join(map(str, tensor.shape))})"
    yield f"#define {prefix}_RANK {len(tensor.shape)}"
    yield f"#define {prefix}_SIZE {math.prod(tensor.shape)}"
    if tensor.scale is not None:
        yield f"#define {prefix}_SCALE {_float(tensor.scale)}"
        yield f"#define {prefix}_ZERO_POINT ({tensor.zero_point})"
    yield ""


def _declarations(prefix: str, ports: Iterable[tuple[str, CTensor]], labels: Sequence[str]) -> Iterator[str]:
    yield f"extern const unsigned char {prefix}_tflite[];  // lies on a multiple of 16 bytes"
    yield f"extern const size_t {prefix}_tflite_len;"
    for port, tensor in ports:
        yield f"typedef {C_TYPES[tensor.dtype]} {prefix}_{port}_t;"
        yield f"extern const char {prefix}_{port}_name[];"
        if tensor.shape:
            yield f"extern const int32_t {prefix}_{port}_shape[{len(tensor.shape)}];"
    if labels:
        yield f"extern const char *const {prefix}_labels[{len(labels)}];"


def _definitions(
    prefix: str, data: bytes, ports: Iterable[tuple[str, CTensor]], labels: Sequence[str]
) -> Iterator[str]:
    for port, tensor in ports:
        yield f"const char {prefix}_{port}_name[] = {_string(tensor.name)};"
        if tensor.shape:
            sizes = ", ".join(map(str, tensor.shape))
            yield f"const int32_t {prefix}_{port}_shape[{len(tensor.shape)}] = {{{sizes}}};"
    if labels:
        yield f"const char *const {prefix}_labels[{len(labels)}] = {{"
        yield from (f"    {_string(label)}," for label in labels)
        yield "};"
    yield f"const size_t {prefix}_tflite_len = {len(data)};"
    yield f"alignas(16) const unsigned char {prefix}_tflite[] = {{"
    for start in range(0, len(data), BYTES_PER_LINE):
        yield "    0x" + data[start : start + BYTES_PER_LINE].hex(" ").replace(" ", ", 0x") + ","
    yield "};"
    yield f'static_assert(sizeof({prefix}_tflite) == {len(data)}, "the array is not the whole file");'


def _string(text: str) -> str:
    """A C string literal in ASCII: what could end it, or mean something to a preprocessor, is written in octal."""
    plain = re.compile(rb"[ !#-\[\]-~]")
    characters = (bytes([b]) for b in text.encode("utf-8", "backslashreplace"))
    escaped = (c.decode() if plain.match(c) and c != b"?" else f"\\{c[0]:03o}" for c in characters)
    return '"' + "".join(escaped) + '"'


def _float(value: float) -> str:
    """A float32 literal that gives the same float32."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
