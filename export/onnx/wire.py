"""ONNX files read field by field: only what is asked for is decoded, in bounded memory, whatever the file says.

A protobuf parser creates an object for every message, so that a file of a few megabytes can take gigabytes. Here a
message is a view of the file's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from edgecnn.errors import BundleError

MAX_FIELDS = 1_000_000
"""Largest number of fields visited in one file, which take about ten seconds. Networks of hundreds of layers have some
ten thousand."""
MAX_DEPTH = 40
"""Deepest nesting of messages; each subgraph of a control flow operator adds three levels."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS: Mapping[int, int] = MappingProxyType({FIXED64: 8, FIXED32: 4})
_MAX_VARINT = 10  # bytes

# For each message, the fields that hold messages with tensors below them (onnx.proto3).
_TENSORS_BELOW: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "training": {1: "graph", 2: "graph"},
        "function": {7: "node", 11: "attribute"},
        "graph": {1: "node", 5: "tensor", 15: "sparse"},
        "node": {5: "attribute"},
        "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
        "sparse": {1: "tensor", 2: "tensor"},
    }
)
_NAME, _EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 8, 13, 14, 1

Field = tuple[int, int | memoryview]
"""A field's number and value: an integer, or the bytes of a text or message."""


class WireError(ValueError):
    """Bytes that are not a valid message."""


class Wire:
    """Reads the messages of one file, and counts visited fields to bound the time.

    Args:
        data: The file's bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.whole = memoryview(data)
        self._left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[Field]:
        """The fields of a message, in order. Fixed-size numbers of 32 and 64 bits are returned as bytes.

        Raises:
            WireError: if the bytes are not fields, or the file has more than ``MAX_FIELDS``.
        """
        place = 0
        while place < len(message):
            self._left -= 1
            if self._left < 0:
                raise WireError(f"more than {MAX_FIELDS:,} fields")
            tag, place = _varint(message, place)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                value, place = _varint(message, place)
                yield number, value
                continue
            if kind == BYTES:
                length, place = _varint(message, place)
            elif kind in _WIDTHS:
                length = _WIDTHS[kind]
            else:
                raise WireError(f"wire type {kind}, which ONNX does not use")
            if number == 0 or length > len(message) - place:
                raise WireError(f"field {number} has {length:,} bytes, but {len(message) - place:,} are left")
            yield number, message[place : place + length]
            place += length

    def parts(self, message: memoryview, number: int) -> Iterator[memoryview]:
        """The messages or texts in all fields with a number."""
        for found, value in self.fields(message):
            if found == number and isinstance(value, memoryview):
                yield value

    def sorted(self, message: memoryview, *numbers: int) -> dict[int, list[memoryview]]:
        """The messages or texts in all fields with some numbers, by number."""
        found: dict[int, list[memoryview]] = {number: [] for number in numbers}
        for number, value in self.fields(message):
            if number in found and isinstance(value, memoryview):
                found[number].append(value)
        return found

    @staticmethod
    def numbers(packed: memoryview) -> list[int]:
        """Decode a packed field of integers."""
        found, place = [], 0
        while place < len(packed):
            value, place = _varint(packed, place)
            found.append(value)
        return found


def text(value: int | memoryview) -> str:
    """A field's text; invalid UTF-8 is replaced."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def check_self_contained(data: bytes, *, where: str) -> None:
    """Refuse an ONNX file with weights in other files, because a runtime would open any path that it names.

    Raises:
        BundleError: if a tensor lies in another file (the error names both), or if the file is not an ONNX file.
    """
    wire = Wire(data)
    try:
        _check_below(wire, wire.whole, "model", where, 0)
    except WireError as err:
        raise BundleError(
            "this is not an ONNX file, or it is damaged",
            where=where,
            why=str(err),
            hint="copy or export the file again",
        ) from err


def _check_below(wire: Wire, message: memoryview, kind: str, where: str, depth: int) -> None:
    if kind == "tensor":
        _check_tensor(wire, message, where)
        return
    if depth > MAX_DEPTH:
        raise WireError(f"messages nest deeper than {MAX_DEPTH}")
    inner = _TENSORS_BELOW[kind]
    for number, value in wire.fields(message):
        if number in inner and isinstance(value, memoryview):
            _check_below(wire, value, inner[number], where, depth + 1)


def _check_tensor(wire: Wire, tensor: memoryview, where: str) -> None:
    name, paths, external = "", [], False
    for number, value in wire.fields(tensor):
        if number == _NAME:
            name = text(value)
        elif number == _DATA_LOCATION:
            external = external or value == _EXTERNAL
        elif number == _EXTERNAL_DATA and isinstance(value, memoryview):
            external = True
            entry = {key: text(part) for key, part in wire.fields(value)}
            paths += [entry.get(2, "")] if entry.get(1) == "location" else []
    if external:
        raise BundleError(
            f"the weights of {name[:80]!r} are in another file, {', '.join(paths)[:200]!r}",
            where=where,
            why="a file could name any path on this machine, so only self-contained files are opened",
            hint="store them in the file: onnx.save_model(onnx.load(path), new_path, save_as_external_data=False)",
        )


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    if place < len(message) and message[place] < 0x80:  # most are of one byte
        return message[place], place + 1
    value = shift = 0
    for byte in message[place : place + _MAX_VARINT]:
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
        shift += 7
    raise WireError("an unterminated number")
