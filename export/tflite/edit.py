"""A TFLite file edited without being exported again: the `edgecnn.export.editing.Editor` of the format."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.export.editing import End, TensorKey, needed_operators
from edgecnn.export.tflite.parse import kind_of, name_of, packed, parsed
from edgecnn.export.tflite.steps import steps
from edgecnn.types import Array

__all__ = [
    "corresponding",
    "extract",
    "first_operators",
    "inputs",
    "operators",
    "outputs",
    "read_tensors",
    "steps",
    "tensor_names",
    "with_fed_tensors",
    "with_outputs",
]


def inputs(data: bytes) -> list[TensorKey]:
    """Indices of the inputs."""
    return [int(i) for i in parsed(data).subgraphs[0].inputs]


def outputs(data: bytes) -> list[TensorKey]:
    """Indices of the outputs."""
    return [int(i) for i in parsed(data).subgraphs[0].outputs]


def tensor_names(data: bytes) -> Mapping[TensorKey, str]:
    """The name of each operator's results, by index."""
    graph = parsed(data).subgraphs[0]
    return {int(i): name_of(graph.tensors[int(i)]) for op in graph.operators for i in op.outputs}


def read_tensors(data: bytes) -> set[TensorKey]:
    """Indices that some operator reads."""
    return {int(i) for op in parsed(data).subgraphs[0].operators for i in op.inputs}


def corresponding(reference: bytes, data: bytes) -> dict[TensorKey, TensorKey]:
    """For each tensor of a reference the index of the result with its name: the same index where that has it."""
    names = tensor_names(data)
    by_name = {name: i for i, name in names.items()}
    found = {}
    for index, tensor in enumerate(parsed(reference).subgraphs[0].tensors):
        name = name_of(tensor)
        if names.get(index) == name:
            found[index] = index
        elif name in by_name:
            found[index] = by_name[name]
    return found


def operators(data: bytes) -> list[tuple[str, str]]:
    """Each operator's kind and the name of its first result, in running order."""
    model = parsed(data)
    tensors = model.subgraphs[0].tensors
    return [(kind_of(model, op), name_of(tensors[int(op.outputs[0])])) for op in model.subgraphs[0].operators]


def with_outputs(data: bytes, tensors: Sequence[TensorKey], *, batch_free: bool) -> bytes:
    """The file with these tensors as its only outputs, in this order."""
    return packed(_set_outputs(parsed(data), tensors, batch_free=batch_free))


def with_fed_tensors(
    data: bytes, tensors: Sequence[TensorKey], fed: Sequence[tuple[TensorKey, Array]], *, batch_free: bool
) -> bytes:
    """The file with ``fed`` tensors as further inputs, which operators read instead of computed tensors."""
    model = parsed(data)
    graph = model.subgraphs[0]
    instead: dict[int, int] = {}
    for index, _ in fed:
        added = copy.copy(graph.tensors[index])
        added.name = f"{name_of(graph.tensors[index])}:fed"
        if batch_free:
            added.shapeSignature = _free(added.shape)
        instead[index] = len(graph.tensors)
        graph.tensors.append(added)
    for op in graph.operators:
        op.inputs = np.array([instead.get(int(i), int(i)) for i in op.inputs], np.int32)
    graph.inputs = np.array([*map(int, graph.inputs), *instead.values()], np.int32)
    return packed(_set_outputs(model, tensors, batch_free=batch_free))


def first_operators(data: bytes, count: int) -> bytes:
    """The file's first ``count`` operators; its outputs are all of their results that the rest reads."""
    model = parsed(data)
    graph = model.subgraphs[0]
    first, rest = graph.operators[:count], graph.operators[count:]
    made = {int(i) for op in first for i in op.outputs}
    read = [int(i) for op in rest for i in op.inputs] + [int(i) for i in graph.outputs]
    graph.operators = first
    return packed(_set_outputs(model, [i for i in dict.fromkeys(read) if i in made], batch_free=False))


def extract(data: bytes, inputs: Sequence[End], outputs: Sequence[End], *, batch_free: bool) -> bytes:
    """The operators between some tensors and others as a file of their own.

    Raises:
        BundleError: if the outputs depend on anything besides the inputs.
    """
    model = parsed(data)
    graph = model.subgraphs[0]
    operators = [([int(i) for i in op.inputs], [int(i) for i in op.outputs]) for op in graph.operators]
    computed = {i for _, results in operators for i in results} | {int(i) for i in graph.inputs}
    constants = set(range(-1, len(graph.tensors))) - computed
    ends = [e.tensor for e in inputs], [e.tensor for e in outputs]
    needed = needed_operators(operators, set(ends[0]), ends[1], constants)
    graph.operators = [op for i, op in enumerate(graph.operators) if i in needed]
    used = [i for k in sorted(needed) for side in operators[k] for i in side if i >= 0]
    place = {index: n for n, index in enumerate(dict.fromkeys([*ends[0], *used, *ends[1]]))}
    for op in graph.operators:
        op.inputs = np.array([place.get(int(i), -1) for i in op.inputs], np.int32)
        op.outputs = np.array([place[int(i)] for i in op.outputs], np.int32)
    graph.tensors = [graph.tensors[i] for i in place]
    graph.inputs, graph.outputs = (np.array([place[i] for i in side], np.int32) for side in ends)
    if batch_free:
        for index in (*graph.inputs, *graph.outputs):
            tensor = graph.tensors[index]
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    model.signatureDefs = None  # they name inputs and outputs of the whole file
    _drop_unused(model)
    return packed(model)


def _drop_unused(model: Any) -> None:
    """Drop the buffers and operator codes that nothing refers to; buffer 0 stays, since it is the empty one."""
    graph = model.subgraphs[0]
    metadata = model.metadata or []
    buffers = dict.fromkeys([0, *(int(t.buffer) for t in graph.tensors), *(int(m.buffer) for m in metadata)])
    place = {index: n for n, index in enumerate(buffers)}
    model.buffers = [model.buffers[i] for i in buffers]
    for holder in (*graph.tensors, *metadata):
        holder.buffer = place[int(holder.buffer)]
    codes = {index: n for n, index in enumerate(dict.fromkeys(int(op.opcodeIndex) for op in graph.operators))}
    model.operatorCodes = [model.operatorCodes[i] for i in codes]
    for op in graph.operators:
        op.opcodeIndex = codes[int(op.opcodeIndex)]


def _set_outputs(model: Any, indices: Sequence[int], *, batch_free: bool) -> Any:
    graph = model.subgraphs[0]
    if batch_free:
        for index in indices:
            graph.tensors[index].shapeSignature = _free(graph.tensors[index].shape)
    graph.outputs = np.array(indices, np.int32)
    model.signatureDefs = None  # they name outputs of the whole file
    return model


def _free(shape: Any) -> Any:
    sizes = np.array(shape, np.int32)
    return np.concatenate([[-1], sizes[1:]]).astype(np.int32) if len(sizes) else sizes
