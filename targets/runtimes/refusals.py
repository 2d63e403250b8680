"""An operator that a runtime does not offer: recognised by the runtime's own words, and found in the file.

The words are the source of truth, and not a table of what runtimes offer: they are right for every version, board and
build. What runtimes compute otherwise than they should has no such words: see docs/runtimes.md.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edgecnn.errors import TargetError
from edgecnn.targets.runtimes import OptionValue

SHOWN = 3
"""Operators of one kind that a message names."""
INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "ARG_MAX": "the scores as output, and argmax in the program that reads them",
        "ELU": "LeakyReLU instead",
        "GELU": "SiLU or Hardswish instead",
        "POW": "a product or a square root instead",
    }
)
"""What is offered everywhere (docs/runtimes.md) and does much the same."""

_ABSENT = re.compile(r"Didn't find op for builtin opcode '(?P<kind>\w+)'(?: version '(?P<version>\d+)')?")
_FAILED = re.compile(r"Node (?:number (?P<n>\d+) \((?P<k>\w+)\)|(?P<kind>\w+) \(number (?P<number>\d+)\)) failed to")
"""LiteRT and tflite-runtime write the one, TFLite Micro the other."""
_OF_TYPE = re.compile(r"[Tt]ype|not (currently |yet )?supported|[Uu]nsupported|\b(U?INT|FLOAT)\d+\b")
"""How kernels speak that refuse the type of a tensor, and not its shape or for want of memory."""
_MEMORY = re.compile(r"arena|Requested: \d+|Failed to (re)?allocate (tail|temp|persistent)|Failed to resize buffer")
_ONNX = re.compile(r"find an implementation for (?P<kind>\w+)\(\d+\) node with name '(?P<name>[^']*)'")
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError, MemoryError)
"""What flatbuffers' Python code can raise on a file that is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator of a file.

    Attributes:
        kind: As the format spells it: ``CONV_2D``, ``Conv``.
        version: TFLite's version of the operator; 0 in ONNX.
        types: Of the first value it reads and of what it gives, where they are known; one name where they are the same.
        value: The name of what it gives. edgecnn's files name values after modules.
    """

    kind: str
    version: int
    types: tuple[str, ...]
    value: str

    def __str__(self) -> str:
        return " ".join((self.kind, *(("of", " to ".join(self.types)) if self.types else ())))


class NotOfferedError(TargetError):
    """A runtime does not offer an operator that a file holds. The file may be right: it cannot be judged there.

    Attributes:
        operators: Those of the file that it is about, in running order; at least one.
        host: Where.
    """

    def __init__(self, subject: str, host: str, operators: Sequence[Operator], why: str, hint: str) -> None:
        self.operators, self.host = tuple(operators), host
        super().__init__(
            f"{subject}: {operators[0]} is not offered",
            where=f"{listed([o.value for o in operators])}, on {host}",
            why=why,
            hint=hint,
        )


@contextmanager
def operators_named(artifact: bytes, subject: str, host: str, options: Mapping[str, OptionValue]) -> Iterator[None]:
    """Turn a runtime's refusal of an operator into an error that names it; other errors pass as they are.

    Args:
        artifact: The file that the runtime was given.
        subject: What the error's message begins with.
        host: Where it was.
        options: The runtime's, as far as they were given.

    Raises:
        NotOfferedError: if a `TargetError` says that the runtime does not offer an operator of the file.
    """
    try:
        yield
    except TargetError as error:
        operators = refused(artifact, error.message)
        if not operators:
            raise
        why = words(error.message.removeprefix(f"{subject}: "))
        found = NotOfferedError(subject, host, operators, why, _hint(operators[0], error.message, options))
        found.detail = error.detail
        raise found from error


def refused(artifact: bytes, said: str) -> list[Operator]:
    """The operators of a file that a runtime says it does not offer; none where it says something else.

    Args:
        artifact: The file: ONNX or TFLite.
        said: All that the runtime said.
    """
    if found := _ONNX.search(said):
        named = [o for o in onnx_operators(artifact) if o.kind == found["kind"]]
        return [o for o in named if o.value == found["name"]] or named
    if found := _ABSENT.search(said):
        version = int(found["version"] or 0)
        return [o for o in tflite_operators(artifact) if o.kind == found["kind"] and version in (0, o.version)]
    if (found := _FAILED.search(said)) and _OF_TYPE.search(said[: found.start()]) and not _MEMORY.search(said):
        place, kind = int(found["n"] or found["number"]), found["k"] or found["kind"]
        operators = tflite_operators(artifact)
        return [o for o in operators[place : place + 1] if o.kind == kind]
    return []


def words(said: str) -> str:
    """What a runtime said, without its general remarks."""
    lines = [line.strip() for line in said.splitlines()]
    telling = [line for line in lines if _ABSENT.search(line) or _FAILED.search(line) or _OF_TYPE.search(line)]
    found = " ".join(telling or [line for line in lines if line])
    return found.split(" An older version of this builtin")[0]


def listed(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _hint(operator: Operator, said: str, options: Mapping[str, OptionValue]) -> str:
    """What to try: float where that is another kernel, another operator, another runtime."""
    absent = _ABSENT.search(said)
    of_no_type = absent is not None and int(absent["version"] or 0) < 2
    tries = []
    if of_no_type and options.get("reference_kernels"):
        tries.append("reference_kernels=off, which has more kernels")
    if not of_no_type and "float32" not in operator.types:
        tries.append(f'[layers."{operator.value}"] precision = "float" in a recipe, or --precisions fp32')
    tries.append(INSTEAD.get(operator.kind, "another operator instead"))
    return "\n".join([*tries, "or another runtime: docs/runtimes.md tells which offer it"])


def tflite_operators(data: bytes) -> list[Operator]:
    """The operators of a TFLite file's first graph, in running order; none where it cannot be read."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    types = {value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()}
    found: list[Operator] = []
    with suppress(*_DAMAGE):
        model: Any = schema.Model.GetRootAs(bytearray(data), 0)
        graph = model.Subgraphs(0)
        for place in range(min(graph.OperatorsLength(), len(data) // 4)):
            operator = graph.Operators(place)
            code = model.OperatorCodes(operator.OpcodeIndex())
            gives = graph.Tensors(operator.Outputs(0))
            ends = [gives] if not operator.InputsLength() else [graph.Tensors(operator.Inputs(0)), gives]
            found.append(
                Operator(
                    kind=kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM"),
                    version=code.Version(),
                    types=tuple(dict.fromkeys(types.get(t.Type(), "unknown") for t in ends)),
                    value=bytes(gives.Name() or b"").decode("utf-8", "replace"),
                )
            )
    return found


def onnx_operators(data: bytes) -> list[Operator]:
    """The operators of an ONNX file, in running order; ``value`` is the node's name where it has one."""
    import onnx

    model = onnx.load_model_from_string(data)
    with suppress(onnx.shape_inference.InferenceError):
        model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}

    def type_of(value: str) -> str:
        name = str(names.get(types.get(value, 0), ""))
        return {"float": "float32", "double": "float64", "undefined": ""}.get(name, name)

    return [
        Operator(
            kind=node.op_type,
            version=0,
            types=tuple(dict.fromkeys(t for v in (*node.input[:1], *node.output[:1]) if (t := type_of(v)))),
            value=node.name or (node.output[0] if node.output else ""),
        )
        for node in graph.node
    ]
