"""A TFLite file edited as it is, never exported again: values given out, values fed in, an end put in the middle."""

from __future__ import annotations

import copy
import struct
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecnn.errors import BundleError
from edgecnn.export.tflite.write import FILE_IDENTIFIER, aligned_buffer

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def parsed(data: bytes) -> Any:
    """The file as a ModelT of one graph.

    Raises:
        BundleError: if it is none.
    """
    if data[4:8] != FILE_IDENTIFIER:
        raise BundleError("the file is damaged: it is no TFLite model", hint="export the model again")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
    except (struct.error, IndexError, ValueError, TypeError, UnicodeDecodeError, MemoryError) as err:
        raise BundleError("the file is damaged: its tables cannot be read", why=str(err), hint="export again") from err
    if not model.subgraphs or len(model.subgraphs) != 1 or not model.subgraphs[0].operators:
        raise BundleError("a TFLite file of several graphs or none is not looked into", hint="export it with edgecnn")
    return model


def packed(model: Any) -> bytes:
    """A model as a file."""
    model.buffers = [aligned_buffer(None if b.data is None else np.asarray(b.data, np.uint8)) for b in model.buffers]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def tensors(data: bytes) -> set[int]:
    """Indices of what the file's operators give."""
    return {int(i) for op in parsed(data).subgraphs[0].operators for i in op.outputs}


def tapped(data: bytes, indices: Sequence[int], *, batch_free: bool) -> bytes:
    """The file with these tensors as its only outputs, in this order."""
    return packed(_with_outputs(parsed(data), indices, batch_free=batch_free))


def forced(data: bytes, indices: Sequence[int], fed: Sequence[tuple[int, NDArray[Any]]], *, batch_free: bool) -> bytes:
    """The same, with ``fed`` tensors as inputs too: what reads them reads the inputs, whatever operators give.

    Args:
        data: The file.
        indices: The outputs.
        fed: Tensors, and an example of what each is to be.
        batch_free: Whether inputs and outputs have a batch that can be resized.
    """
    model = parsed(data)
    graph = model.subgraphs[0]
    instead: dict[int, int] = {}
    for index, _ in fed:
        twin = copy.copy(graph.tensors[index])
        twin.name = f"{name_of(graph.tensors[index])}:fed"
        if batch_free:
            twin.shapeSignature = _free(twin.shape)
        instead[index] = len(graph.tensors)
        graph.tensors.append(twin)
    for op in graph.operators:
        op.inputs = np.array([instead.get(int(i), int(i)) for i in op.inputs], np.int32)
    graph.inputs = np.array([*map(int, graph.inputs), *instead.values()], np.int32)
    return packed(_with_outputs(model, indices, batch_free=batch_free))


def cut(data: bytes, count: int) -> bytes:
    """The file's first ``count`` operators, giving out all that others read of them."""
    model = parsed(data)
    graph = model.subgraphs[0]
    kept, rest = graph.operators[:count], graph.operators[count:]
    made = {int(i) for op in kept for i in op.outputs}
    read = [int(i) for op in rest for i in op.inputs] + [int(i) for i in graph.outputs]
    graph.operators = kept
    return packed(_with_outputs(model, [i for i in dict.fromkeys(read) if i in made], batch_free=False))


def operators(data: bytes) -> list[tuple[str, str]]:
    """Each operator's kind and the name of what it gives, in running order."""
    model = parsed(data)
    tensors_ = model.subgraphs[0].tensors
    return [(kind_of(model, op), name_of(tensors_[int(op.outputs[0])])) for op in model.subgraphs[0].operators]


def kind_of(model: Any, operator: Any) -> str:
    """An operator's kind, as the schema spells it."""
    code = model.operatorCodes[operator.opcodeIndex]
    return str(_NAMES.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM"))


def name_of(tensor: Any) -> str:
    """A tensor's name."""
    return bytes(tensor.name or b"").decode("utf-8", "replace") if not isinstance(tensor.name, str) else tensor.name


def _with_outputs(model: Any, indices: Sequence[int], *, batch_free: bool) -> Any:
    graph = model.subgraphs[0]
    if batch_free:
        for index in indices:
            graph.tensors[index].shapeSignature = _free(graph.tensors[index].shape)
    graph.outputs = np.array(indices, np.int32)
    model.signatureDefs = None  # they name the whole's outputs
    return model


def _free(shape: Any) -> Any:
    sizes = np.array(shape, np.int32)
    return np.concatenate([[-1], sizes[1:]]).astype(np.int32) if len(sizes) else sizes
