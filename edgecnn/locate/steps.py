"""A file's operators with all that they hold, the same for both formats, so that two files can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.types import Array

_WEIGHTED = {
    "CONV_2D": {1: "weight", 2: "bias"},
    "DEPTHWISE_CONV_2D": {1: "weight", 2: "bias"},
    "FULLY_CONNECTED": {1: "weight", 2: "bias"},
    "TRANSPOSE_CONV": {1: "weight", 3: "bias"},
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {1: "weight"},
    "Clip": {1: "bound", 2: "bound"},
    "MAXIMUM": {1: "bound"},
    "MINIMUM": {1: "bound"},
    "QuantizeLinear": {1: "scale", 2: "zero point"},
    "DequantizeLinear": {1: "scale", 2: "zero point"},
}
_PASSED_ON = ("Cast", "DequantizeLinear", "DEQUANTIZE", "Transpose")
"""Operators behind which a constant is still what its reader takes it for."""


@dataclass(frozen=True, slots=True)
class Held:
    """A constant or a parameter that an operator has: its role, the name of its tensor, and the numbers."""

    role: str
    name: str
    array: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a file.

    Attributes:
        name: Of what it gives.
        kind: Its kind.
        reads: Names of all that it reads.
        options: Its attributes, as texts.
        held: Its constants and the parameters of its tensors, by slot.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    options: Mapping[str, str]
    held: Mapping[str, Held]


def onnx_steps(data: bytes) -> list[Step]:
    """The operators of an ONNX file, in running order."""
    from onnx import helper

    from edgecnn.locate.edit_onnx import constants, parsed

    arrays, nodes = constants(data), list(parsed(data).graph.node)
    steps = []
    for node in nodes:
        held = {}
        for slot, name in enumerate(node.input):
            if name in arrays:
                role = _WEIGHTED.get(node.op_type, {}).get(slot, "") or _role_behind(nodes, node) or "operand"
                held[f"input {slot}"] = Held(role, name, arrays[name])
        options = {a.name: _text(helper.get_attribute_value(a)) for a in node.attribute}
        steps.append(Step(name=node.output[0], kind=node.op_type, reads=tuple(node.input), options=options, held=held))
    return steps


def _role_behind(nodes: list[Any], node: Any) -> str:
    """What a constant is to whatever reads it behind a conversion."""
    for _ in range(4):
        if node.op_type not in _PASSED_ON:
            return ""
        reader = next((n for n in nodes if node.output[0] in n.input), None)
        if reader is None:
            return ""
        role = _WEIGHTED.get(reader.op_type, {}).get(list(reader.input).index(node.output[0]), "")
        if role:
            return role
        node = reader
    return ""


def tflite_steps(data: bytes) -> list[Step]:
    """The operators of a TFLite file, in running order."""
    from edgecnn.locate.edit_tflite import kind_of, name_of, parsed

    model = parsed(data)
    tensors = model.subgraphs[0].tensors
    made = {int(i) for op in model.subgraphs[0].operators for i in op.outputs}
    outside = {int(i) for i in model.subgraphs[0].inputs}
    steps = []
    for op in model.subgraphs[0].operators:
        kind, held = kind_of(model, op), {}
        for slot, index in enumerate(int(i) for i in op.inputs if i >= 0):
            tensor = tensors[index]
            data_of = model.buffers[tensor.buffer].data
            if data_of is not None and index not in made | outside:
                role = _WEIGHTED.get(kind, {}).get(slot, "operand")
                held[f"input {slot}"] = Held(role, name_of(tensor), _array(tensor, data_of))
            held |= _parameters(f"input {slot}", tensor)
        for index in op.outputs:
            held |= _parameters("result", tensors[int(index)])
        options = {} if op.builtinOptions is None else {k: _text(v) for k, v in vars(op.builtinOptions).items()}
        reads = tuple(name_of(tensors[int(i)]) for i in op.inputs if i >= 0)
        steps.append(
            Step(name=name_of(tensors[int(op.outputs[0])]), kind=kind, reads=reads, options=options, held=held)
        )
    return steps


def _parameters(slot: str, tensor: Any) -> dict[str, Held]:
    from edgecnn.locate.edit_tflite import name_of

    q = tensor.quantization
    if q is None or q.scale is None or not len(q.scale):
        return {}
    name = name_of(tensor)
    zero = np.zeros(len(q.scale), np.int64) if q.zeroPoint is None else np.asarray(q.zeroPoint)
    return {
        f"{slot} scale": Held("scale", name, np.asarray(q.scale)),
        f"{slot} zero point": Held("zero point", name, zero),
    }


def _array(tensor: Any, data: Any) -> Array:
    from edgecnn.export.tflite.write import TENSOR_TYPES

    dtype = next((d for d, t in TENSOR_TYPES.items() if t == tensor.type), np.dtype(np.uint8))
    raw = np.asarray(data, np.uint8)
    if len(raw) % dtype.itemsize:
        return raw
    array = raw.view(dtype)
    shape = () if tensor.shape is None else tuple(int(n) for n in tensor.shape)
    return array.reshape(shape) if array.size == int(np.prod(shape)) else array


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.tolist())
    return str(list(value)) if isinstance(value, list | tuple) else str(value)
