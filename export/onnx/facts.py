"""What an ONNX file says about its inputs, outputs and operators."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgecnn.errors import BundleError
from edgecnn.export.file_facts import Affine, FileFacts, damaged_file
from edgecnn.export.onnx.wire import Wire, WireError, check_self_contained, text

KNOWN_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
READS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"DequantizeLinear": (0, 1, 2), "QLinearConv": (0, 1, 2), "QLinearMatMul": (0, 1, 2)}
)
"""Operators that read a quantized value: the places of the value, its scale and its zero point among their inputs."""
MAKES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"QuantizeLinear": (1, 2), "QLinearConv": (6, 7), "QLinearMatMul": (6, 7)}
)
"""Operators that give a quantized value: the places of its scale and zero point among their inputs."""
KEEPS = frozenset(("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "MaxPool", "Relu"))
"""Operators whose result has the parameters of their first input."""

_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # fields of a graph
_FLOAT, _STRING = 1, 8
_INTEGERS: Mapping[int, str] = MappingProxyType({2: "B", 3: "b", 4: "H", 5: "h", 6: "i"})
_SORTS: Mapping[int, str] = MappingProxyType({4: "a sequence", 5: "a map", 8: "a sparse tensor", 9: "an optional"})


@dataclass(frozen=True, slots=True)
class _Node:
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def facts_of(data: bytes, where: str) -> FileFacts:
    """The parameters of integer inputs and outputs, and operators of other domains.

    Raises:
        BundleError: if it is no ONNX file, its weights lie in other files, or an input or output is no tensor of
            numbers.
    """
    check_self_contained(data, where=where)
    wire = Wire(data)
    try:
        graphs = list(wire.parts(wire.whole, 7))
        if len(graphs) != 1:
            raise damaged_file("ONNX", where, f"it holds {len(graphs)} graphs")
        parts = wire.sorted(graphs[0], _NODE, _INITIALIZER, _INPUT, _OUTPUT)
        nodes = [_node(wire, part) for part in parts[_NODE]]
        constants = {_first(wire, tensor, 8): tensor for tensor in parts[_INITIALIZER]}
        inputs = [name for name in _values(wire, parts[_INPUT], where) if name not in constants]
        outputs = _values(wire, parts[_OUTPUT], where)
        own = {(_first(wire, f, 10), _first(wire, f, 1)) for f in wire.parts(wire.whole, 25)}
        edges = _Edges(wire, nodes, constants)
        found = {name: edges.read_by(name) for name in inputs} | {name: edges.made_by(name) for name in outputs}
    except WireError as err:
        raise damaged_file("ONNX", where, str(err)) from err
    foreign = {f"{n.domain}.{n.operator}" for n in nodes if _is_foreign(n) and (n.domain, n.operator) not in own}
    quantization = {name: affine for name, affine in found.items() if affine is not None}
    return FileFacts(quantization=MappingProxyType(quantization), custom=tuple(sorted(foreign)))


def _is_foreign(node: _Node) -> bool:
    return node.domain not in KNOWN_DOMAINS


def _node(wire: Wire, message: memoryview) -> _Node:
    inputs, outputs, operator, domain = [], [], "", ""
    for number, value in wire.fields(message):
        if number == 1:
            inputs.append(text(value))
        elif number == 2:
            outputs.append(text(value))
        elif number == 4:
            operator = text(value)
        elif number == 7:
            domain = text(value)
    return _Node(operator, domain, tuple(inputs), tuple(outputs))


def _values(wire: Wire, values: Sequence[memoryview], where: str) -> list[str]:
    """Names of the graph's inputs or outputs, all of them tensors of numbers."""
    names = []
    for value in values:
        name = _first(wire, value, 1)
        names.append(name)
        for sort, kind in (field for part in wire.parts(value, 2) for field in wire.fields(part)):
            if sort in _SORTS:
                raise _not_numbers(name, _SORTS[sort], where)
            if sort == 1 and isinstance(kind, memoryview) and (1, _STRING) in wire.fields(kind):
                raise _not_numbers(name, "a tensor of texts", where)
    return names


def _not_numbers(name: str, what: str, where: str) -> BundleError:
    return BundleError(
        f"{name[:80]!r} is {what}",
        where=where,
        why="inputs and outputs that are tensors of numbers can be compared",
        hint="cut the model before it: onnx.utils.extract_model",
    )


def _first(wire: Wire, message: memoryview, number: int) -> str:
    return next((text(part) for part in wire.parts(message, number)), "")


class _Edges:
    """Finds the scales and zero points of a graph's inputs and outputs."""

    def __init__(self, wire: Wire, nodes: Sequence[_Node], constants: Mapping[str, memoryview]) -> None:
        self._wire, self._constants = wire, constants
        self._makers = {name: node for node in nodes for name in node.outputs}
        self._readers: dict[str, list[_Node]] = {}
        for node in nodes:
            for name in node.inputs[:1]:
                self._readers.setdefault(name, []).append(node)

    def read_by(self, name: str) -> Affine | None:
        """The parameters that all readers of a value agree on; None where they do not, or one has none."""
        found, names, seen = set(), [name], {name}
        while names:
            for node in self._readers.get(names.pop(), ()):
                if node.operator in READS:
                    _, scale, zero_point = READS[node.operator]
                    found.add(self._affine(node, scale, zero_point))
                elif node.operator in KEEPS and node.outputs and node.outputs[0] not in seen:
                    seen.add(node.outputs[0])
                    names.append(node.outputs[0])
                else:
                    found.add(None)
        return found.pop() if len(found) == 1 else None

    def made_by(self, name: str) -> Affine | None:
        """The parameters that the operator states which computes a value; None where it states none."""
        seen = set()
        while name in self._makers and name not in seen:
            seen.add(name)
            node = self._makers[name]
            if node.operator in MAKES:
                return self._affine(node, *MAKES[node.operator])
            if node.operator not in KEEPS or not node.inputs:
                return None
            name = node.inputs[0]
        return None

    def _affine(self, node: _Node, scale: int, zero_point: int) -> Affine | None:
        """One scale and zero point for all values; None where they are computed, or differ by channel."""
        names = [node.inputs[i] if i < len(node.inputs) else "" for i in (scale, zero_point)]
        if names[0] not in self._constants:
            return None
        step = _scalar(self._wire, self._constants[names[0]])
        if step is None or not 0 < step < float("inf"):
            return None
        if not names[1]:
            return Affine(scale=step, zero_point=0)
        zero = _scalar(self._wire, self._constants[names[1]]) if names[1] in self._constants else None
        return None if zero is None else Affine(scale=step, zero_point=zero)


def _scalar(wire: Wire, tensor: memoryview) -> float | None:
    """The value of a tensor of one element; None for others."""
    kind, raw, single, integers = 0, b"", b"", []
    for number, value in wire.fields(tensor):
        if number == 2 and isinstance(value, int):
            kind = value
        elif number == 9 and isinstance(value, memoryview):
            raw = bytes(value[:9])
        elif number == 4 and isinstance(value, memoryview):
            single += bytes(value[:9])
        elif number == 5:
            integers += [value] if isinstance(value, int) else _packed(wire, value)
    code = "f" if kind == _FLOAT else _INTEGERS.get(kind, "")
    stored = raw or (single if kind == _FLOAT else b"")
    if code and len(stored) == struct.calcsize(f"<{code}"):
        return float(struct.unpack(f"<{code}", stored)[0])
    if len(integers) == 1 and kind in _INTEGERS:
        return float(integers[0] - 2**64 if integers[0] >= 2**63 else integers[0])
    return None


def _packed(wire: Wire, value: memoryview) -> list[int]:
    return wire.numbers(value[:20])
