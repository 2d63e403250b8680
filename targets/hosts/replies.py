"""What an agent's replies say, checked field by field: a device's words are data, and may be wrong or hostile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from edgecnn.targets.agent import agent

Option = bool | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """The real value of a stored integer ``q`` is ``scale * (q - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """An input or output of an opened artifact.

    Attributes:
        name: The signature's name in TFLite where there is one, else the tensor's own.
        shape: Sizes as the artifact states them; None may be any. The first axis is the batch.
        dtype: A numpy type's name.
        quantization: None for real values; ONNX files do not state it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """What an agent says of itself: the versions and the machine's name there.

    Attributes:
        protocol: The protocol version.
        python: Python's version.
        platform: The operating system's name and version.
        machine: As ``uname -m`` has it.
        numpy: numpy's version.
        runtimes: Version by name for the runtimes that are installed; None where the package states no version.
    """

    protocol: int
    python: str
    platform: str
    machine: str
    numpy: str
    runtimes: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The reply to ``open``: the session's number, the runtime's version, all options in force, inputs and outputs.

    Attributes:
        arena_bytes: Memory for tensors, where the runtime tells: TFLite Micro does.
        load_ns: What opening took, the runtime's module being imported already; 0 where the agent does not tell.
        resident_kb: Memory of the process just before that, where it is known.
    """

    session: int
    version: str
    options: Mapping[str, Option]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    arena_bytes: int | None = None
    load_ns: int = 0
    resident_kb: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An ``error`` reply; see the agent for the kinds."""

    kind: str
    message: str
    traceback: str


def parse_hello(message: agent.Message) -> AgentInfo:
    """Read the reply to ``hello``.

    Raises:
        ProtocolError: A field is missing or of another type.
    """
    fields = message.fields
    runtimes = _field(fields, "runtimes", dict)
    if not all(version is None or isinstance(version, str) for version in runtimes.values()):
        raise agent.ProtocolError("a runtime's version is not a string")
    texts = {name: printable(_field(fields, name, str)) for name in ("python", "platform", "machine", "numpy")}
    versions = {printable(name): version and printable(version) for name, version in runtimes.items()}
    return AgentInfo(protocol=_field(fields, "protocol", int), runtimes=MappingProxyType(versions), **texts)


def parse_opened(message: agent.Message) -> Opened:
    """Read the reply to ``open``.

    Raises:
        ProtocolError: A field is missing or of another type.
    """
    fields = message.fields
    options = _field(fields, "options", dict)
    if not all(isinstance(value, Option) for value in options.values()):
        raise agent.ProtocolError("an option is not a boolean, an integer or a string")
    return Opened(
        session=_field(fields, "session", int),
        version=printable(_field(fields, "version", str)),
        options=MappingProxyType(options),
        inputs=tuple(_tensor(item) for item in _field(fields, "inputs", list)),
        outputs=tuple(_tensor(item) for item in _field(fields, "outputs", list)),
        arena_bytes=None if fields.get("arena_bytes") is None else _field(fields, "arena_bytes", int),
        load_ns=0 if fields.get("load_ns") is None else _field(fields, "load_ns", int),
        resident_kb=None if fields.get("resident_kb") is None else _field(fields, "resident_kb", int),
    )


def parse_outputs(message: agent.Message, outputs: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """Read the reply to ``infer``.

    Raises:
        ProtocolError: The arrays are not of the number and types that the artifact was said to have.
    """
    got = [array.dtype.name for array in message.arrays]
    expected = [output.dtype for output in outputs]
    if got != expected:
        raise agent.ProtocolError(f"the outputs are of the types {got}, announced were {expected}")
    return list(message.arrays)


def parse_nothing(_: agent.Message) -> None:
    """Read a reply that says no more than that the request was served."""


def parse_refused(message: agent.Message) -> Refused:
    """Read an ``error`` reply.

    Raises:
        ProtocolError: It is another reply, or a field is missing or of another type.
    """
    if message.kind != "error":
        raise agent.ProtocolError(f"a reply to another request came: {message.kind[:40]!r}")
    names = ("kind", "message", "traceback")
    return Refused(**{name: printable(_field(message.fields, name, str)) for name in names})


def printable(text: str) -> str:
    """Return `text` without what could move a terminal's cursor or fail to encode; lines and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _field(fields: Mapping[str, Any], name: str, expected: type) -> Any:
    value = fields.get(name)
    if type(value) is not expected:  # and not isinstance: True is no session number
        raise agent.ProtocolError(f"the field {name} is missing or not of type {expected.__name__}")
    return value


def _tensor(item: Any) -> TensorInfo:
    if not isinstance(item, dict):
        raise agent.ProtocolError("a tensor's description is not an object")
    shape = _field(item, "shape", list)
    if not all(size is None or (type(size) is int and size >= 0) for size in shape):
        raise agent.ProtocolError("a tensor's shape has a size that is not a natural number")
    dtype = _field(item, "dtype", str)
    if dtype not in agent.DTYPES:
        raise agent.ProtocolError("a tensor's type is not one of numpy's that can be sent")
    quantization = item.get("quantization")
    return TensorInfo(
        name=_field(item, "name", str),
        shape=tuple(shape),
        dtype=dtype,
        quantization=None if quantization is None else _quantization(quantization),
    )


def _quantization(item: Any) -> Quantization:
    if not isinstance(item, dict):
        raise agent.ProtocolError("a tensor's quantization is not an object")
    return Quantization(scale=_field(item, "scale", float), zero_point=_field(item, "zero_point", int))
