"""The operators of a TFLite file with their constants, parameters and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecnn.export.steps import Held, Step, option_text
from edgecnn.export.tflite.parse import kind_of, name_of, parsed
from edgecnn.export.tflite.write import TENSOR_TYPES
from edgecnn.types import Array

ROLES: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "CONV_2D": {1: "weight", 2: "bias"},
        "DEPTHWISE_CONV_2D": {1: "weight", 2: "bias"},
        "FULLY_CONNECTED": {1: "weight", 2: "bias"},
        "TRANSPOSE_CONV": {1: "weight", 3: "bias"},
        "MAXIMUM": {1: "bound"},
        "MINIMUM": {1: "bound"},
    }
)
"""What an operator's inputs are to it, by their places."""
BOUNDING = ("RELU", "RELU6", "MAXIMUM", "MINIMUM")
NAMED: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "fusedActivationFunction": ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"),
        "padding": ("SAME", "VALID"),
    }
)
"""Options whose numbers have names in the schema."""


def steps(data: bytes) -> list[Step]:
    """The operators of a TFLite file, in running order."""
    model = parsed(data)
    graph = model.subgraphs[0]
    computed = {int(i) for op in graph.operators for i in op.outputs} | {int(i) for i in graph.inputs}
    found = []
    for op in graph.operators:
        kind = kind_of(model, op)
        options = {} if op.builtinOptions is None else vars(op.builtinOptions)
        found.append(
            Step(
                name=name_of(graph.tensors[int(op.outputs[0])]),
                kind=kind,
                reads=tuple(name_of(graph.tensors[int(i)]) for i in op.inputs if i >= 0),
                options={name: _option_text(name, value) for name, value in options.items()},
                held=_held(model, op, kind, computed),
                only_bounds=kind in BOUNDING,
            )
        )
    return found


def _held(model: Any, op: Any, kind: str, computed: set[int]) -> dict[str, Held]:
    tensors, held = model.subgraphs[0].tensors, dict[str, Held]()
    for slot, index in enumerate(int(i) for i in op.inputs if i >= 0):
        tensor = tensors[index]
        content = model.buffers[tensor.buffer].data
        if content is not None and index not in computed:
            role = ROLES.get(kind, {}).get(slot, "operand")
            held[f"input {slot}"] = Held(role, name_of(tensor), _array(tensor, content))
        held |= _parameters(f"input {slot}", tensor)
    for index in op.outputs:
        held |= _parameters("result", tensors[int(index)])
    return held


def _parameters(slot: str, tensor: Any) -> dict[str, Held]:
    q = tensor.quantization
    if q is None or q.scale is None or not len(q.scale):
        return {}
    name = name_of(tensor)
    zero = np.zeros(len(q.scale), np.int64) if q.zeroPoint is None else np.asarray(q.zeroPoint)
    return {
        f"{slot} scale": Held("scale", name, np.asarray(q.scale)),
        f"{slot} zero point": Held("zero point", name, zero),
    }


def _array(tensor: Any, content: Any) -> Array:
    dtype = next((d for d, t in TENSOR_TYPES.items() if t == tensor.type), np.dtype(np.uint8))
    raw = np.asarray(content, np.uint8)
    if len(raw) % dtype.itemsize:
        return raw
    array = raw.view(dtype)
    shape = () if tensor.shape is None else tuple(int(n) for n in tensor.shape)
    return array.reshape(shape) if array.size == int(np.prod(shape)) else array


def _option_text(name: str, value: Any) -> str:
    text, names = option_text(value), NAMED.get(name, ())
    return names[int(text)] if text.isdigit() and int(text) < len(names) else text
