"""Replies about artifacts: to ``open``, ``infer`` and ``close``, and refusals, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from edgecnn.targets.agent import messages
from edgecnn.targets.hosts.reply_fields import read_field, read_line, read_natural
from edgecnn.targets.printable import printable
from edgecnn.targets.runtimes import OptionValue


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
        shape: Sizes as the artifact states them; None stands for any size. The first axis is the batch.
        dtype: A numpy type's name.
        quantization: None for real values; ONNX files do not state it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReply:
    """The reply to ``open``: the session's number, the runtime's version, all options in force, inputs and outputs.

    Attributes:
        arena_bytes: Memory for tensors, if the runtime reports it, as TFLite Micro does.
        load_ns: Time for opening, without the import of the runtime's module; 0 if the agent does not report it.
        resident_kb: Memory of the process just before opening, if it is known.
        not_kept: Why the device could not store the artifact for the next time; None if it did or was not asked to.
    """

    session: int
    version: str
    options: Mapping[str, OptionValue]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    arena_bytes: int | None = None
    load_ns: int = 0
    resident_kb: int | None = None
    not_kept: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An ``error`` reply; see the agent for the kinds."""

    kind: str
    message: str
    traceback: str


def parse_opened(message: messages.Message) -> OpenReply:
    """Read the reply to ``open``.

    Raises:
        ProtocolError: A field is missing or has the wrong type.
    """
    fields = message.fields
    options = read_field(fields, "options", dict)
    if not all(isinstance(value, OptionValue) for value in options.values()):
        raise messages.ProtocolError("an option is not a boolean, an integer or a string")
    return OpenReply(
        session=read_field(fields, "session", int),
        version=printable(read_field(fields, "version", str)),
        options=MappingProxyType(options),
        inputs=tuple(_tensor(item) for item in read_field(fields, "inputs", list)),
        outputs=tuple(_tensor(item) for item in read_field(fields, "outputs", list)),
        arena_bytes=read_natural(fields, "arena_bytes"),
        load_ns=read_natural(fields, "load_ns") or 0,
        resident_kb=read_natural(fields, "resident_kb"),
        not_kept=read_line(fields, "not_kept"),
    )


def parse_outputs(message: messages.Message, outputs: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """Read the reply to ``infer``.

    Raises:
        ProtocolError: The number or types of the arrays are not those that the reply to ``open`` announced.
    """
    got = [array.dtype.name for array in message.arrays]
    expected = [output.dtype for output in outputs]
    if got != expected:
        raise messages.ProtocolError(f"the outputs are of the types {got}, announced were {expected}")
    return list(message.arrays)


def parse_nothing(_: messages.Message) -> None:
    """Read a reply that only confirms that the request was served."""


def parse_refused(message: messages.Message) -> Refused:
    """Read an ``error`` reply.

    Raises:
        ProtocolError: The reply is of another kind, or a field is missing or of another type.
    """
    if message.kind != "error":
        raise messages.ProtocolError(f"a reply to another request came: {message.kind[:40]!r}")
    names = ("kind", "message", "traceback")
    return Refused(**{name: printable(read_field(message.fields, name, str)) for name in names})


def _tensor(item: Any) -> TensorInfo:
    if not isinstance(item, dict):
        raise messages.ProtocolError("a tensor's description is not an object")
    shape = read_field(item, "shape", list)
    if not all(size is None or (type(size) is int and size >= 0) for size in shape):
        raise messages.ProtocolError("a tensor's shape has a size that is not a natural number")
    dtype = read_field(item, "dtype", str)
    if dtype not in messages.DTYPES:
        raise messages.ProtocolError("a tensor's type is not one of numpy's that can be sent")
    quantization = item.get("quantization")
    return TensorInfo(
        name=read_field(item, "name", str),
        shape=tuple(shape),
        dtype=dtype,
        quantization=None if quantization is None else _quantization(quantization),
    )


def _quantization(item: Any) -> Quantization:
    if not isinstance(item, dict):
        raise messages.ProtocolError("a tensor's quantization is not an object")
    return Quantization(scale=read_field(item, "scale", float), zero_point=read_field(item, "zero_point", int))
