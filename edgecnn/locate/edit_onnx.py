"""An ONNX file edited as it is, never exported again: values given out, values fed in, an end put in the middle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgecnn.errors import BundleError

FED = ":fed"
"""Behind a tensor's name: of the input that its readers have instead."""
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def parsed(data: bytes) -> Any:
    """The file as a ModelProto.

    Raises:
        BundleError: if it is none.
    """
    try:
        model = onnx.load_from_string(data)
    except (DecodeError, ValueError) as err:
        raise BundleError(
            "the file is damaged: it is no ONNX model", why=str(err), hint="export the model again"
        ) from err
    if not model.graph.node:
        raise BundleError("the file is damaged: its ONNX graph has no operator", hint="export the model again")
    return model


def tensors(data: bytes) -> set[str]:
    """Names of what the file's operators give."""
    return {name for node in parsed(data).graph.node for name in node.output}


def tapped(data: bytes, names: Sequence[str]) -> bytes:
    """The file with these tensors as its only outputs, in this order."""
    model = parsed(data)
    types = _types(model)
    del model.graph.output[:]
    model.graph.output.extend(_info(name, types.get(name)) for name in names)
    return bytes(model.SerializeToString(deterministic=True))


def forced(data: bytes, names: Sequence[str], fed: Sequence[tuple[str, NDArray[Any]]]) -> bytes:
    """The same, with ``fed`` tensors as inputs too: what reads them reads the inputs, whatever operators give.

    Args:
        data: The file.
        names: The outputs.
        fed: Tensors, and an example of what each is to be.
    """
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
    return tapped(model.SerializeToString(), names)


def cut(data: bytes, count: int) -> bytes:
    """The file's first ``count`` operators, giving out all that others read of them."""
    model = parsed(data)
    kept, rest = list(model.graph.node)[:count], list(model.graph.node)[count:]
    made = {name for node in kept for name in node.output}
    read = [name for node in rest for name in node.input] + [o.name for o in model.graph.output]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return tapped(model.SerializeToString(), [n for n in dict.fromkeys(read) if n in made])


def operators(data: bytes) -> list[tuple[str, str]]:
    """Each operator's kind and what it gives, in running order."""
    return [(node.op_type, node.output[0]) for node in parsed(data).graph.node]


def between(data: bytes, node_names: Collection[str]) -> tuple[set[str], set[str]]:
    """Tensors beside operators of these names: those that an operator with weights gives to one of them alone, and all.

    The former are what disappears where a sum or an activation is fused into what it follows.
    """
    everything = parsed(data).graph.node
    nodes = [n for n in everything if n.name in node_names]
    uses = Counter(name for n in everything for name in n.input)
    heavy = {name for n in everything if n.op_type in _HEAVY for name in n.output if uses[name] == 1}
    light = {name for n in nodes if n.op_type not in _HEAVY for name in n.input}
    return heavy & light, {name for n in nodes for name in (*n.input, *n.output)}


def constants(data: bytes) -> dict[str, NDArray[Any]]:
    """The initializers, by name."""
    return {t.name: numpy_helper.to_array(t) for t in parsed(data).graph.initializer}


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


def exact_float_tensors(data: bytes) -> tuple[tuple[str, ...], frozenset[str]]:
    """The layers of an int8 file that hold their integers in float on purpose, and their tensors."""
    from edgecnn.export.onnx.int8.exact import METADATA

    marked = next((entry.value for entry in parsed(data).metadata_props if entry.key == METADATA), None)
    found = {} if marked is None else json.loads(marked)
    return tuple(found.get("layers", ())), frozenset(found.get("tensors", ()))
