"""An operator that a runtime does not offer: recognised by the runtime's own words, and found in the file.

The words are the source of truth, and not a table of what runtimes offer: they are right for every version, board and
build. Each runtime's descriptor has the patterns of its words. What runtimes compute otherwise than they should has no
such words: see docs/runtimes.md.
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
from edgecnn.targets.runtimes import RUNTIMES, OptionValue, Runtime

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
"""Operators that every runtime offers (docs/runtimes.md) and that do much the same, by what they replace."""

_FIRST_VERSION = 1
"""Of a TFLite operator: where a runtime lacks that one, it lacks the operator for every type."""
_OF_TYPE = re.compile(r"[Tt]ype|not (currently |yet )?supported|[Uu]nsupported|\b(U?INT|FLOAT)\d+\b")
"""How a kernel says that it refuses the type of a tensor, and not its shape or for want of memory."""
_MEMORY = re.compile(r"arena|Requested: \d+|Failed to (re)?allocate (tail|temp|persistent)|Failed to resize buffer")
_TFLITE = b"TFL3"
"""The file identifier of TFLite, at offset 4."""
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
def operators_named(
    artifact: bytes, subject: str, host: str, runtime: str, options: Mapping[str, OptionValue]
) -> Iterator[None]:
    """Turn a runtime's refusal of an operator into an error that names it; other errors pass as they are.

    Args:
        artifact: The file that the runtime was given.
        subject: What the error's message begins with.
        host: Where the runtime is.
        runtime: Its name. A runtime without a descriptor has no known words.
        options: Its options, as far as they were given.

    Raises:
        NotOfferedError: if a `TargetError` says that the runtime does not offer an operator of the file.
    """
    try:
        yield
    except TargetError as error:
        row = RUNTIMES.get(runtime)
        operators = unsupported_operators(artifact, error.message, row) if row else []
        if row is None or not operators:
            raise
        why = telling_lines(error.message.removeprefix(f"{subject}: "), row)
        hint = _hint(operators[0], error.message, row, options)
        found = NotOfferedError(subject, host, operators, why, hint)
        found.detail = error.detail
        raise found from error


def unsupported_operators(artifact: bytes, said: str, runtime: Runtime) -> list[Operator]:
    """Return the operators of a file that a runtime says it does not offer; none where it says something else.

    Args:
        artifact: The file: ONNX or TFLite.
        said: All that the runtime said.
        runtime: Its descriptor.
    """
    for pattern in runtime.missing_operator:
        if found := pattern.search(said):
            return _named(operators_of(artifact), found, said)
    return []


def _named(operators: list[Operator], found: re.Match[str], said: str) -> list[Operator]:
    """Return those operators that a runtime's words are about, by kind and by version, node's name or node's number."""
    words = found.groupdict()
    kind = words["kind"]
    if number := words.get("number"):
        refuses_type = _OF_TYPE.search(said[: found.start()]) and not _MEMORY.search(said)
        place = int(number)
        return [o for o in operators[place : place + 1] if o.kind == kind and refuses_type]
    same = [o for o in operators if o.kind == kind and int(words.get("version") or 0) in (0, o.version)]
    return [o for o in same if o.value == words.get("name")] or same


def telling_lines(said: str, runtime: Runtime) -> str:
    """Return what a runtime said about an operator, without its general remarks."""
    lines = [line.strip() for line in said.splitlines()]
    patterns = (*runtime.missing_operator, _OF_TYPE)
    telling = [line for line in lines if any(pattern.search(line) for pattern in patterns)]
    found = " ".join(telling or [line for line in lines if line])
    return found.split(" An older version of this builtin")[0]


def listed(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _hint(operator: Operator, said: str, runtime: Runtime, options: Mapping[str, OptionValue]) -> str:
    """What to try: float where that is another kernel, another operator, another runtime."""
    of_no_type = any(
        int(found["version"] or 0) <= _FIRST_VERSION
        for pattern in runtime.missing_operator
        if "version" in pattern.groupindex and (found := pattern.search(said))
    )
    tries = []
    if of_no_type and options.get("reference_kernels"):
        tries.append("reference_kernels=off, which has more kernels")
    if not of_no_type and "float32" not in operator.types:
        tries.append(f'[layers."{operator.value}"] precision = "float" in a recipe, or --precisions fp32')
    tries.append(INSTEAD.get(operator.kind, "another operator instead"))
    return "\n".join([*tries, "or another runtime: docs/runtimes.md tells which offer it"])


def operators_of(artifact: bytes) -> list[Operator]:
    """Return the operators of a TFLite or ONNX file, in running order."""
    return tflite_operators(artifact) if artifact[4:8] == _TFLITE else onnx_operators(artifact)


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
