"""The messages between a host and the agent: how they are framed, limited, written and read.

A message is a fixed prefix, a JSON header and the bytes of its arrays; all numbers are little-endian:

    offset  bytes  meaning
    0       4      b"ECNN"
    4       2      protocol version
    6       2      reserved, 0
    8       4      header length in bytes, at most MAX_HEADER
    12      8      payload length in bytes, at most MAX_PAYLOAD

The header is ``{"kind": str, "fields": {...}, "arrays": [{"dtype": str, "shape": [int, ...]}, ...]}``. The payload is
the arrays' elements in C order, one array after the other.

Every request gets one reply: of the request's kind, or ``error`` with the fields ``kind`` (protocol, input,
no-runtime, need-artifact, runtime), ``message`` and ``traceback``.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROTOCOL = 1
MAGIC = b"ECNN"
MAX_HEADER = 2**20  # bytes
MAX_PAYLOAD = 2**30  # bytes; below 2**31, so that every size fits a 32-bit board's intp
MAX_ARRAYS = 1024
MAX_RANK = 16
MAX_DEPTH = 8  # levels of nesting in the JSON header
MAX_DIGITS = 20  # of a JSON integer: enough for 64 bits, short enough for int() to be quick
CHUNK = 2**20  # bytes read at once, so that memory grows with what arrives and not with what is announced
MAX_LIMIT = 604_800.0  # seconds of a request's field ``limit``: a week

_PREFIX = struct.Struct("<HHIQ")  # what follows the magic
_DTYPE_NAMES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
DTYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(name) for name in _DTYPE_NAMES.split()}


class ProtocolError(ValueError):
    """Bytes that are no message, or a message that cannot be written."""


class CutShortError(ProtocolError):
    """The stream ends inside a message."""


class VersionError(ProtocolError):
    """A message of another version of the protocol, `theirs`."""

    def __init__(self, theirs: int) -> None:
        super().__init__(f"the other side speaks protocol {theirs}, this side {PROTOCOL}")
        self.theirs = theirs


class Message(NamedTuple):
    """One request or reply."""

    kind: str
    fields: dict[str, Any]
    arrays: tuple[NDArray[Any], ...]


class Readable(Protocol):
    """A stream that messages are read from, like a binary file; a short read is fine, and 0 bytes are the end."""

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` from its beginning and return the number of bytes."""


class Writable(Protocol):
    """A stream that messages are written to, like a buffered binary file: a write takes all its data."""

    def write(self, data: Any, /) -> Any:
        """Take all of `data`."""

    def flush(self) -> Any:
        """Send everything that was written."""


def write_message(stream: Writable, kind: str, fields: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
    """Write one message.

    Args:
        stream: Where the message is written to.
        kind: The request, or the request that is answered, or ``error``.
        fields: JSON values by name.
        arrays: Arrays of the types in `DTYPES`, in any memory order.

    Raises:
        ProtocolError: The message exceeds a limit or holds what JSON or `DTYPES` cannot; nothing was written then.
    """
    for part in encode_message(kind, fields, arrays):
        stream.write(part)
    stream.flush()


def encode_message(kind: str, fields: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> list[Any]:
    """Return the message as buffers to be written one after the other; arrays in C order are not copied.

    Raises:
        ProtocolError: As `write_message`.
    """
    plain = [_little_endian(array) for array in arrays]
    specs = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in plain]
    try:
        header = _ENCODER.encode({"kind": kind, "fields": fields, "arrays": specs}).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{kind}: the fields cannot be written as JSON: {error}") from error
    _parse_header(header)  # by the reader's rules, so that nothing is sent that the reader would refuse
    payload = sum(array.nbytes for array in plain)
    _check_lengths(len(header), payload)
    prefix = MAGIC + _PREFIX.pack(PROTOCOL, 0, len(header), payload)
    return [prefix + header, *(array.reshape(-1).view(np.uint8) for array in plain if array.nbytes)]


def read_message(stream: Readable) -> Message | None:
    """Read one message.

    Returns:
        The message, or None where the stream ends before one begins.

    Raises:
        ProtocolError: What arrives is no message of this protocol version, exceeds a limit, or is cut short.
    """
    magic = _read_up_to(stream, len(MAGIC)).tobytes()
    if not magic:
        return None
    if magic != MAGIC:
        raise ProtocolError(f"a message begins with {MAGIC!r}, this with {magic!r}")
    version, reserved, header_length, payload_length = _PREFIX.unpack(
        _read_exact(stream, _PREFIX.size, "prefix").tobytes()
    )
    if version != PROTOCOL:
        raise VersionError(version)
    if reserved:
        raise ProtocolError(f"the reserved field of the prefix is {reserved}, not 0")
    _check_lengths(header_length, payload_length)
    kind, fields, specs = _parse_header(_read_exact(stream, header_length, "header").tobytes())
    described = sum(spec.nbytes for spec in specs)
    if described != payload_length:
        raise ProtocolError(f"{kind}: the arrays take {described} bytes, the payload has {payload_length}")
    return Message(kind, dict(fields), tuple(_read_array(stream, spec) for spec in specs))


class _ArraySpec(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int


def _check_lengths(header: int, payload: int) -> None:
    if header > MAX_HEADER:
        raise ProtocolError(f"a header of {header} bytes exceeds the limit of {MAX_HEADER}")
    if payload > MAX_PAYLOAD:
        raise ProtocolError(f"a payload of {payload} bytes exceeds the limit of {MAX_PAYLOAD}")


def _read_up_to(stream: Readable, size: int) -> NDArray[np.uint8]:
    data, done = np.empty(min(size, CHUNK), np.uint8), 0
    while done < size:
        if done == len(data):
            data = np.concatenate([data, np.empty(min(size - done, done), np.uint8)])
        count = stream.readinto(data[done:])
        if not count:
            break
        done += count
    return data[:done]


def _read_exact(stream: Readable, size: int, what: str) -> NDArray[np.uint8]:
    data = _read_up_to(stream, size)
    if len(data) != size:
        raise CutShortError(f"the stream ends after {len(data)} of {size} bytes of the {what}")
    return data


@functools.lru_cache(maxsize=8)  # many messages have the same header; callers do not change the result
def _parse_header(raw: bytes) -> tuple[str, dict[str, Any], list[_ArraySpec]]:
    try:
        text = raw.decode("utf-8")
        header = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict) or header.keys() != {"kind", "fields", "arrays"}:
        raise ProtocolError("the header is not an object of kind, fields and arrays")
    kind, fields, arrays = header["kind"], header["fields"], header["arrays"]
    if not isinstance(kind, str) or not isinstance(fields, dict) or not isinstance(arrays, list):
        raise ProtocolError("kind is not a string, fields not an object, or arrays not a list")
    if _deeper_than(MAX_DEPTH, header):
        raise ProtocolError(f"the header nests deeper than {MAX_DEPTH}")
    if len(arrays) > MAX_ARRAYS:
        raise ProtocolError(f"{len(arrays)} arrays exceed the limit of {MAX_ARRAYS}")
    return kind, fields, [_parse_spec(item) for item in arrays]


def _parse_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ProtocolError(f"an integer of {len(text)} digits")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ProtocolError(f"{text[:40]} exceeds float64")
    return value


def _refuse_constant(text: str) -> float:
    raise ProtocolError(f"{text} is not JSON")


_ENCODER = json.JSONEncoder(allow_nan=False)
_DECODER = json.JSONDecoder(parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_constant)


def _deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit):
        inner = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
    return bool(level)


def _parse_spec(item: Any) -> _ArraySpec:
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape"}:
        raise ProtocolError("an array is not described by dtype and shape")
    name, shape = item["dtype"], item["shape"]
    if not isinstance(name, str) or name not in DTYPES:
        raise ProtocolError(f"arrays of type {str(name)[:40]!r} are not allowed, only {_DTYPE_NAMES}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise ProtocolError(f"an array's shape is not a list of at most {MAX_RANK} dimensions")
    if not all(type(size) is int and 0 <= size <= MAX_PAYLOAD for size in shape):
        raise ProtocolError(f"an array's dimension is not an integer from 0 to {MAX_PAYLOAD}")
    dtype = DTYPES[name]
    # numpy refuses shapes whose other dimensions overflow even where one dimension is 0.
    if _product([size for size in shape if size]) * dtype.itemsize > MAX_PAYLOAD:
        raise ProtocolError(f"an array of shape {shape} and type {name} exceeds the limit of {MAX_PAYLOAD} bytes")
    return _ArraySpec(dtype, tuple(shape), _product(shape) * dtype.itemsize)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _read_array(stream: Readable, spec: _ArraySpec) -> NDArray[Any]:
    raw = _read_exact(stream, spec.nbytes, "payload")
    if not len(raw):
        return np.zeros(spec.shape, spec.dtype)
    if spec.dtype == np.bool_ and raw.max() > 1:
        raise ProtocolError("a bool array holds bytes other than 0 and 1")
    array = raw.view(spec.dtype.newbyteorder("<")).reshape(spec.shape)
    return array.astype(spec.dtype, copy=False)  # copies on big-endian machines only


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.name not in DTYPES:
        raise ProtocolError(f"arrays of type {array.dtype} cannot be sent, only {_DTYPE_NAMES}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
