"""Wrong bytes of every kind: flipped, cut, too large, odd, with paths that lead elsewhere. `Random` is seeded."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np

SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
ODD = (None, True, -1, 0, 1.5, 2**31, 2**63, 1e308, "", "x", "\x1b[2J", [], {}, [[]], "9" * 400)
PATHS = ("../../etc/passwd", "/etc/passwd", "..", "/dev/zero", "a/../../b", "C:\\x", "x\0y", "manifest.json", "\u202ex")


def mutated(data: bytes, random: Random, form: str) -> bytes:
    """Bytes that are a little wrong: flipped, cut, doubled, with sizes that cannot be, or with another file's path."""
    if random.random() < 0.4:
        return tflite_fields(data, random) if form == "tflite" else onnx_fields(data, random)
    ways: list[Callable[[bytearray, Random], None]] = [*[flip] * 5, *[huge] * 3, cut, insert, delete, repeat]
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if changed:
            random.choice(ways)(changed, random)
    return external(bytes(changed), random) if form == "onnx" and random.random() < 0.05 else bytes(changed)


NUMBERS = (-(2**31), -1, 0, 1, 2, 7, 1000, 2**16, 2**31 - 1)


def tflite_fields(data: bytes, random: Random) -> bytes:
    """A well-formed file in which sizes, places, types, strides or scales are others."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    graph = model.subgraphs[0]
    for _ in range(random.choice((1, 1, 2, 4))):
        tensor, operator = random.choice(graph.tensors), random.choice(graph.operators)
        holder: Any = random.choice([tensor, operator, graph, operator.builtinOptions, tensor.quantization])
        names = [name for name, value in vars(holder or tensor).items() if _is_numeric(value)]
        if not names:
            continue
        name = random.choice(names)
        value = getattr(holder or tensor, name)
        number = random.choice((*NUMBERS, random.randrange(len(graph.tensors) + 2)))
        if isinstance(value, int | float):
            setattr(holder or tensor, name, type(value)(number))
        else:
            changed = [v.item() if hasattr(v, "item") else v for v in value]
            changed[random.randrange(len(changed))] = type(changed[0])(number)
            setattr(holder or tensor, name, changed[: random.choice((None, None, 1, 2))])
    builder = flatbuffers.Builder(len(data))
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except (TypeError, struct.error):  # the number does not fit the field
        return tflite_fields(data, random)
    return bytes(builder.Output())


def _is_numeric(value: Any) -> bool:
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    return isinstance(value, list | np.ndarray) and len(value) > 0 and np.isscalar(value[0])


def onnx_fields(data: bytes, random: Random) -> bytes:
    """A well-formed file in which sizes, types, names or attributes are others."""
    import onnx

    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(random.choice((1, 1, 2, 4))):
        number, node, tensor = random.choice(NUMBERS), random.choice(graph.node), random.choice(graph.initializer)
        match random.randrange(8):
            case 0 if tensor.dims:
                tensor.dims[random.randrange(len(tensor.dims))] = number
            case 1:
                tensor.data_type = random.randrange(24)
            case 2:
                tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]
            case 3:
                node.op_type = random.choice(("Loop", "If", "Conv", "Gather", "Expand", "Tile", "Resize", "", "Relu"))
            case 4 if node.input:
                node.input[random.randrange(len(node.input))] = random.choice(
                    (*graph.node[0].input, "", node.output[0])
                )
            case 5 if node.attribute:
                attribute = random.choice(node.attribute)
                attribute.i = number
                if attribute.ints:
                    attribute.ints[random.randrange(len(attribute.ints))] = number
            case 6:
                shape = random.choice((*graph.input, *graph.output)).type.tensor_type.shape
                random.choice(shape.dim).dim_value = number
            case _:
                random.choice((*graph.input, *graph.output)).type.tensor_type.elem_type = random.randrange(24)
    return model.SerializeToString()


def flip(data: bytearray, random: Random) -> None:
    for _ in range(random.choice((1, 1, 1, 4, 32))):
        data[_place(data, random)] ^= 1 << random.randrange(8)


def cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def huge(data: bytearray, random: Random) -> None:
    size, place = random.choice((1, 2, 4, 8)), _place(data, random)
    data[place : place + size] = struct.pack("<Q", random.choice(SIZES))[:size]


def insert(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    data[place:place] = random.randbytes(random.randrange(1, 64))


def delete(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    del data[place : place + random.randrange(1, 64)]


def repeat(data: bytearray, random: Random) -> None:
    place, size = _place(data, random), random.randrange(1, 4096)
    data[place:place] = data[place : place + size] * random.randrange(1, 8)


def _place(data: bytearray, random: Random) -> int:
    """Anywhere, but half the time among the first bytes, which are no weights in either format's small files."""
    return random.randrange(min(len(data), 600) if random.random() < 0.5 else len(data))


def external(data: bytes, random: Random) -> bytes:
    """A first initializer that says its data are in another file."""
    import onnx

    with contextlib.suppress(Exception):
        model = onnx.load_from_string(data)
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", random.choice(PATHS).replace("\0", "")
        return model.SerializeToString()
    return data


def bad_manifest(data: bytes, random: Random) -> bytes:
    """Wrong bytes, or well-formed JSON in which a value is odd, missing or a path."""
    if random.random() < 0.4:
        changed = bytearray(data)
        random.choice((flip, cut, insert, delete, repeat))(changed, random)
        return bytes(changed)
    manifest = json.loads(data)
    for _ in range(random.choice((1, 1, 3))):
        holder, key = random.choice(list(_places(manifest)))
        way = random.random()
        if way < 0.2:
            del holder[key]
        elif way < 0.4 and isinstance(holder[key], str):
            holder[key] = random.choice(PATHS)
        else:
            holder[key] = random.choice(ODD)
    return json.dumps(manifest).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def bad_npz(data: bytes, random: Random) -> bytes:
    """Wrong bytes, or a well-formed archive with odd members."""
    changed = bytearray(data)
    way = random.choice(("bytes", "bytes", "huge", "bomb", "name", "header"))
    if way == "bytes":
        random.choice((flip, cut, insert, delete, repeat))(changed, random)
        return bytes(changed)
    if way == "huge":
        huge(changed, random)
        return bytes(changed)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    if way == "bomb":
        members[f"input/{random.randrange(9)}.npy"] = bytes(random.choice((1, 64)) << 20)
    elif way == "name":
        members[f"{random.choice(PATHS)}.npy".replace("\0", "")] = members.pop(name)
    else:
        header = bytearray(members[name])
        for _ in range(4):
            header[random.randrange(min(len(header), 128))] = random.choice(b"0123456789()',:{} <f|O\x00\xff")
        members[name] = bytes(header)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return buffer.getvalue()
