"""An ONNX file edited without being exported again: the `edgecnn.export.editing.Editor` of the format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgecnn.export.editing import End, TensorKey, needed_operators
from edgecnn.export.onnx.parse import parsed
from edgecnn.export.onnx.steps import steps
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

FED = ":fed"
"""The ending of an input's name that operators read instead of a computed tensor."""
_WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def inputs(data: bytes) -> list[TensorKey]:
    """Names of the inputs that have no initializer."""
    graph = parsed(data).graph
    known = {t.name for t in graph.initializer}
    return [i.name for i in graph.input if i.name not in known]


def outputs(data: bytes) -> list[TensorKey]:
    """Names of the outputs."""
    return [o.name for o in parsed(data).graph.output]


def tensor_names(data: bytes) -> Mapping[TensorKey, str]:
    """Names of the operators' results, each of which identifies its tensor."""
    return {name: name for node in parsed(data).graph.node for name in node.output}


def read_tensors(data: bytes) -> set[TensorKey]:
    """Names that some operator reads."""
    return {name for node in parsed(data).graph.node for name in node.input}


def corresponding(reference: bytes, data: bytes) -> dict[TensorKey, TensorKey]:  # noqa: ARG001  (names are the same in both)
    """Names of the operators' results: a tensor's name is the same in all files of a program."""
    return dict(tensor_names(data))


def operators(data: bytes) -> list[tuple[str, str]]:
    """Each operator's kind and the name of its first result, in running order."""
    return [(node.op_type, node.output[0]) for node in parsed(data).graph.node]


def with_outputs(data: bytes, tensors: Sequence[TensorKey], *, batch_free: bool) -> bytes:  # noqa: ARG001
    """The file with these tensors as its only outputs, of any shape, whether the batch is free or not."""
    model = parsed(data)
    types = _types(model)
    del model.graph.output[:]
    model.graph.output.extend(_info(name, types.get(name)) for name in tensors)
    return bytes(model.SerializeToString(deterministic=True))


def with_fed_tensors(
    data: bytes, tensors: Sequence[TensorKey], fed: Sequence[tuple[TensorKey, Array]], *, batch_free: bool
) -> bytes:
    """The file with ``fed`` tensors as further inputs of a free batch, which operators read instead of results."""
    model = parsed(data)
    instead = {name for name, _ in fed}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in instead:
                node.input[i] = name + FED
    for name, example in fed:
        dtype = helper.np_dtype_to_tensor_dtype(example.dtype)
        dims = ["batch", *example.shape[1:]] if example.ndim else []
        model.graph.input.append(helper.make_tensor_value_info(name + FED, dtype, dims))
    return with_outputs(model.SerializeToString(), tensors, batch_free=batch_free)


def first_operators(data: bytes, count: int) -> bytes:
    """The file's first ``count`` operators; its outputs are all of their results that the rest reads."""
    model = parsed(data)
    first, rest = list(model.graph.node)[:count], list(model.graph.node)[count:]
    made = {name for node in first for name in node.output}
    read = [name for node in rest for name in node.input] + [o.name for o in model.graph.output]
    del model.graph.node[:]
    model.graph.node.extend(first)
    results = [n for n in dict.fromkeys(read) if n in made]
    return with_outputs(model.SerializeToString(), results, batch_free=False)


def extract(data: bytes, inputs: Sequence[End], outputs: Sequence[End], *, batch_free: bool) -> bytes:
    """The operators between some tensors and others as a file of their own.

    Raises:
        BundleError: if the outputs depend on anything besides the inputs.
    """
    model = parsed(data)
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    nodes = [(list(n.input), list(n.output)) for n in graph.node]
    needed = needed_operators(nodes, {e.tensor for e in inputs}, [e.tensor for e in outputs], constants)
    between = [n for i, n in enumerate(graph.node) if i in needed]
    used = {name for n in between for name in (*n.input, *n.output)}
    ends = [[_end(end, batch_free=batch_free) for end in side] for side in (inputs, outputs)]
    weights = [t for t in graph.initializer if t.name in used]
    for field, content in ((graph.node, between), (graph.initializer, weights), (graph.input, ends[0])):
        del field[:]
        field.extend(content)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(ends[1])
    return bytes(model.SerializeToString(deterministic=True))


def _end(end: End, *, batch_free: bool) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(end.dtype))
    dims = ["batch" if batch_free else end.shape[0], *end.shape[1:]]
    return helper.make_tensor_value_info(end.tensor, kind, dims)


def tensors_around(data: bytes, node_names: Collection[str]) -> tuple[set[str], set[str]]:
    """Tensors that operators of these names read and give: those that a fusion makes disappear, and all of them.

    Where a sum or an activation is fused into the layer before it, what disappears is the result of that layer, which
    nothing else reads.
    """
    everything = parsed(data).graph.node
    nodes = [n for n in everything if n.name in node_names]
    uses = Counter(name for n in everything for name in n.input)
    of_layers = {name for n in everything if n.op_type in _WITH_WEIGHTS for name in n.output if uses[name] == 1}
    fusible = {name for n in nodes if n.op_type not in _WITH_WEIGHTS for name in n.input}
    return of_layers & fusible, {name for n in nodes for name in (*n.input, *n.output)}


def _types(model: Any) -> dict[str, Any]:
    """What is known of each tensor's type."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = model
    return {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)}


def _info(name: str, known: Any) -> Any:
    if known is None:
        return onnx.ValueInfoProto(name=name)
    kind = known.type.tensor_type.elem_type
    return helper.make_tensor_value_info(name, kind, None)
