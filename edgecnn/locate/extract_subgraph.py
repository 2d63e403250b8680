"""Some operators of a file as a file of their own, byte for byte what they were: what is wrong in them stays wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.errors import BundleError
from edgecnn.locate import edit_onnx, edit_tflite


@dataclass(frozen=True, slots=True)
class End:
    """A tensor that a cut file takes or gives: ONNX's name or TFLite's index, its type, its shape for one sample."""

    tensor: Any
    dtype: str
    shape: tuple[int, ...]


Ends = Sequence[End]


def cut_onnx(data: bytes, inputs: Ends, outputs: Ends, *, batch_free: bool) -> bytes:
    """The operators of an ONNX file between some tensors and others.

    Raises:
        BundleError: if what comes out depends on anything else that goes in.
    """
    from onnx import helper

    model = edit_onnx.parsed(data)
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    nodes = [(list(n.input), list(n.output)) for n in graph.node]
    kept = _between(nodes, {e.tensor for e in inputs}, [e.tensor for e in outputs], constants)
    operators = [n for i, n in enumerate(graph.node) if i in kept]
    used = {name for n in operators for name in (*n.input, *n.output)}

    def info(end: End) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(end.dtype))
        dims = ["batch" if batch_free else end.shape[0], *end.shape[1:]]
        return helper.make_tensor_value_info(end.tensor, kind, dims)

    ends = [[info(end) for end in side] for side in (inputs, outputs)]
    weights = [t for t in graph.initializer if t.name in used]
    for field, content in ((graph.node, operators), (graph.initializer, weights), (graph.input, ends[0])):
        del field[:]
        field.extend(content)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(ends[1])
    return bytes(model.SerializeToString(deterministic=True))


def cut_tflite(data: bytes, inputs: Ends, outputs: Ends, *, batch_free: bool) -> bytes:
    """The operators of a TFLite file between some tensors and others.

    Raises:
        BundleError: if what comes out depends on anything else that goes in.
    """
    model = edit_tflite.parsed(data)
    graph = model.subgraphs[0]
    operators = [([int(i) for i in op.inputs], [int(i) for i in op.outputs]) for op in graph.operators]
    made = {i for _, given in operators for i in given} | {int(i) for i in graph.inputs}
    constants = set(range(-1, len(graph.tensors))) - made
    ends = [e.tensor for e in inputs], [e.tensor for e in outputs]
    kept = _between(operators, set(ends[0]), ends[1], constants)
    graph.operators = [op for i, op in enumerate(graph.operators) if i in kept]
    used = [i for k in sorted(kept) for side in operators[k] for i in side if i >= 0]
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
    model.signatureDefs = None  # they name the whole's inputs and outputs
    _drop_unused(model)
    return edit_tflite.packed(model)


def _between(
    operators: Sequence[tuple[Sequence[Any], Sequence[Any]]],
    inputs: Collection[Any],
    outputs: Sequence[Any],
    constants: Collection[Any],
) -> set[int]:
    """The operators that the outputs need when the inputs are given."""
    makers = {name: i for i, (_, given) in enumerate(operators) for name in given}
    kept: set[int] = set()
    wanted = list(outputs)
    while wanted:
        name = wanted.pop()
        if name in inputs or (name in constants and name not in makers) or name == "":
            continue
        if name not in makers:
            raise BundleError(f"the file cannot be cut there: {name} goes in too")
        if makers[name] not in kept:
            kept.add(makers[name])
            wanted.extend(operators[makers[name]][0])
    if not kept:
        raise BundleError("the file cannot be cut there: no operator lies between")
    return kept


def _drop_unused(model: Any) -> None:
    """Buffers and operator codes that nothing needs any more; buffer 0 is the empty one."""
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
