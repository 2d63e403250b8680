"""The program in a bundle: the graph that was exported, and the integers of its quantized files.

The file is an ordinary ``.npz``: ``program`` is JSON in UTF-8, and ``array/N`` are the constants that it refers to by
N. Each constant is stored once, however many graphs use it. Reading it needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np

from edgecnn.bundle.npz_codec import Kind, decode_npz, encode_npz
from edgecnn.bundle.program_check import check_graph, check_quantized, check_scales
from edgecnn.errors import BundleError, EdgecnnError
from edgecnn.graph.graph import Graph, Input, Node, Origin, Output
from edgecnn.graph.ops import OPS, Op
from edgecnn.program.qparams import QParams, QWeights
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.program.quantized16 import QuantizedGraph16, Scale16, with_scales
from edgecnn.types import Array

PROGRAM_FILE = "program.npz"
MAX_PROGRAM_BYTES = 2**31 - 1
_MAX_MEMBERS = 1 << 16
_KIND = Kind(
    whole="the program's arrays", part="the program's array", max_bytes=MAX_PROGRAM_BYTES, max_members=_MAX_MEMBERS
)
_TEXT = "program"
_OPERATORS = {op.__name__: op for op in OPS}
_AGAIN = "export the model again"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """The program that the artifacts of a bundle were written from.

    Attributes:
        graph: The captured and simplified model, which float artifacts compute.
        quantized: The program that int8 artifacts compute, if the bundle has any. Its graph is the same model,
            rewritten so that each operator has an integer form.
        int16: The program that int16x8 artifacts compute, if the bundle has any.
        digests: SHA-256 of each file that was written from the program, by file name. They reveal a file that was
            changed later, even if the manifest was changed with it.
    """

    graph: Graph
    quantized: QuantizedGraph | None = None
    int16: QuantizedGraph16 | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


def encode_program(program: Program) -> bytes:
    """Encode a program as a compressed ``.npz``; equal programs give equal bytes."""
    store = _Store()
    text: dict[str, Any] = {"graph": _graph_json(program.graph, store), "quantized": None}
    if program.quantized is not None:
        text["quantized"] = _quantized_json(program.quantized, store)
    if program.int16 is not None:
        text["int16"] = _int16_json(program.int16, store)
    if program.digests:
        text["digests"] = dict(program.digests)
    packed = np.frombuffer(json.dumps(text, separators=(",", ":")).encode(), np.uint8)
    return encode_npz([(_TEXT, packed), *((f"array/{i}", array) for i, array in enumerate(store.arrays))])


def decode_program(data: bytes, *, where: str = "") -> Program:
    """Decode a program from :func:`encode_program`, and check types, operators, shapes and integers.

    Args:
        data: The file's bytes.
        where: The file's name, for messages.

    Raises:
        BundleError: if the file is damaged, or this edgecnn could not have written it.
    """
    arrays = decode_npz(data, _KIND, where=where)
    try:
        return _ProgramReader(arrays).program()
    except (EdgecnnError, msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError) as err:
        why = str(err) if not isinstance(err, EdgecnnError) else err.message
        raise BundleError("the program is invalid", where=where, why=why, hint=_AGAIN) from err


@dataclass(slots=True)
class _Store:
    """Arrays in the order of their first use, without duplicates."""

    arrays: list[Array] = field(default_factory=list)
    _known: dict[tuple[str, tuple[int, ...], bytes], int] = field(default_factory=dict)

    def put(self, array: Array) -> int:
        plain = np.ascontiguousarray(array)
        key = plain.dtype.str, array.shape, hashlib.sha256(plain.data).digest()
        if key not in self._known:
            self._known[key] = len(self.arrays)
            self.arrays.append(array)
        return self._known[key]


def _graph_json(graph: Graph, store: _Store) -> dict[str, Any]:
    return {
        "inputs": [[i.name, i.shape] for i in graph.inputs],
        "nodes": [_node_json(node) for node in graph.nodes],
        "outputs": [[o.name, o.value] for o in graph.outputs],
        "constants": [[name, store.put(array)] for name, array in graph.constants.items()],
    }


def _node_json(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "operator": type(node.op).__name__,
        "fields": msgspec.to_builtins(node.op, enc_hook=_plain) | _infinite(node.op),
        "shape": node.shape,
        "origin": [node.origin.module, _file_and_line(node.origin.source), node.origin.operator],
    }


def _file_and_line(source: str) -> str:
    """A source line without folders, because the bytes must not depend on the exporting machine."""
    return source.replace("\\", "/").rpartition("/")[2]


def _plain(value: Any) -> Any:
    """Convert numpy numbers, which operators may hold, to Python numbers."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be stored in a program")


def _fields(op: Op | type[Op]) -> set[str]:
    return {field.name for field in fields(op)}


def _infinite(op: Op) -> dict[str, Any]:
    """The infinite fields, which JSON numbers cannot represent."""
    values = {name: getattr(op, name) for name in _fields(op)}
    return {k: {"infinite": 1 if v > 0 else -1} for k, v in values.items() if isinstance(v, float) and math.isinf(v)}


def _quantized_json(q: QuantizedGraph, store: _Store) -> dict[str, Any]:
    return {
        "graph": _graph_json(q.graph, store),
        "activations": [[name, float(p.scale), p.zero_point] for name, p in q.activations.items()],
        "weights": [[name, store.put(w.integers), store.put(w.scales)] for name, w in q.weights.items()],
        "biases": [[name, store.put(array)] for name, array in q.biases.items()],
        "skipped": sorted(q.skipped),
        "weight_limit": q.weight_limit,
        "notes": list(q.notes),
        **({"uint8_weights": True} if q.uint8_weights else {}),
    }


def _int16_json(q: QuantizedGraph16, store: _Store) -> dict[str, Any]:
    """Encode an int16x8 program. Weights, biases and scales of constant operands follow from the stored scales."""
    computed = {*(i.name for i in q.graph.inputs), *q.graph.producers}
    scales = [[name, float(s.scale)] for name, s in q.activations.items() if name in computed]
    return {"graph": _graph_json(q.graph, store), "scales": scales}


class _GraphText(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[tuple[str, tuple[int, ...]]]
    nodes: list[_NodeText]
    outputs: list[tuple[str, str]]
    constants: list[tuple[str, int]]


class _NodeText(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    operator: str
    fields: dict[str, Any]
    shape: tuple[int, ...]
    origin: tuple[str, str, str]


class _QuantizedText(msgspec.Struct, forbid_unknown_fields=True):
    graph: _GraphText
    activations: list[tuple[str, float, int]]
    weights: list[tuple[str, int, int]]
    biases: list[tuple[str, int]]
    skipped: list[str]
    weight_limit: int
    notes: list[str]
    uint8_weights: bool = False


class _Int16Text(msgspec.Struct, forbid_unknown_fields=True):
    graph: _GraphText
    scales: list[tuple[str, float]]


class _ProgramText(msgspec.Struct, forbid_unknown_fields=True):
    graph: _GraphText
    quantized: _QuantizedText | None
    int16: _Int16Text | None = None
    digests: dict[str, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]] = {}


class _ProgramReader:
    """Decodes text and arrays to a program; constants that share an array still share it."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = dict(arrays)
        self._used: set[int] = set()

    def program(self) -> Program:
        text = self._arrays.pop(_TEXT, None)
        if text is None or text.dtype != np.uint8 or text.ndim != 1:
            _refuse("it has no JSON text")
        for array in self._arrays.values():
            array.setflags(write=False)
        read = msgspec.json.decode(text.tobytes(), type=_ProgramText)
        graph = self._graph(read.graph)
        quantized = None if read.quantized is None else self._quantized(read.quantized)
        int16 = None if read.int16 is None else self._int16(read.int16)
        unused = set(self._arrays) - {f"array/{i}" for i in self._used}
        if unused:
            _refuse(f"nothing uses {min(unused)[:80]!r}")
        return Program(graph=graph, quantized=quantized, int16=int16, digests=read.digests)

    def _graph(self, text: _GraphText) -> Graph:
        return check_graph(
            Graph(
                inputs=tuple(Input(*i) for i in text.inputs),
                nodes=tuple(_node(n) for n in text.nodes),
                outputs=tuple(Output(*o) for o in text.outputs),
                constants=_unique("constant", [(name, self._array(i, np.float32)) for name, i in text.constants]),
            )
        )

    def _quantized(self, text: _QuantizedText) -> QuantizedGraph:
        params = [(name, QParams(np.float32(scale), zero)) for name, scale, zero in text.activations]
        weights = [
            (name, QWeights(self._array(integers, np.int8), self._array(scales, np.float32)))
            for name, integers, scales in text.weights
        ]
        return check_quantized(
            QuantizedGraph(
                graph=self._graph(text.graph),
                activations=_unique("parameters of", params),
                weights=_unique("weights of", weights),
                biases=_unique("biases of", [(name, self._array(i, np.int32)) for name, i in text.biases]),
                skipped=frozenset(text.skipped),
                weight_limit=text.weight_limit,
                uint8_weights=text.uint8_weights,
                notes=tuple(text.notes),
            )
        )

    def _int16(self, text: _Int16Text) -> QuantizedGraph16:
        graph = self._graph(text.graph)
        scales = _unique("the scale of", [(name, Scale16(np.float32(scale))) for name, scale in text.scales])
        return with_scales(graph, check_scales(graph, scales))

    def _array(self, number: int, dtype: Any) -> Any:
        array = self._arrays.get(f"array/{number}")
        if array is None or array.dtype != dtype:
            _refuse(f"array {number} does not exist, or is not {np.dtype(dtype)}")
        self._used.add(number)
        return array


def _node(text: _NodeText) -> Node:
    op = _OPERATORS.get(text.operator)
    if op is None:
        _refuse(f"{text.name[:80]} is of the unknown operator {text.operator[:80]!r}")
    given = {name: _number(value) for name, value in text.fields.items()}
    if set(given) != _fields(op):
        _refuse(f"{text.name[:80]} ({text.operator}) does not have the fields of the operator")
    return Node(name=text.name, op=msgspec.convert(given, type=op), shape=text.shape, origin=Origin(*text.origin))


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        if value not in ({"infinite": 1}, {"infinite": -1}):
            _refuse("a field is neither a number nor infinite")
        return math.copysign(math.inf, value["infinite"])
    return value


def _unique(what: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            _refuse(f"{what} {name[:80]!r} occurs twice")
        found[name] = value
    return found


def _refuse(why: str) -> NoReturn:
    raise BundleError(why)
