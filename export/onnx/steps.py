"""The operators of an ONNX file with their constants and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from onnx import helper

from edgecnn.export.onnx.parse import constants, parsed
from edgecnn.export.steps import Held, Step, option_text

ROLES: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "Conv": {1: "weight", 2: "bias"},
        "ConvTranspose": {1: "weight", 2: "bias"},
        "Gemm": {1: "weight", 2: "bias"},
        "MatMul": {1: "weight"},
        "Clip": {1: "bound", 2: "bound"},
        "QuantizeLinear": {1: "scale", 2: "zero point"},
        "DequantizeLinear": {1: "scale", 2: "zero point"},
    }
)
"""What an operator's inputs are to it, by their places."""
BOUNDING = ("Relu", "Clip", "Identity")
_CONVERSIONS = ("Cast", "DequantizeLinear", "Transpose")
"""Operators after which a constant is still what their reader takes it for."""
_MOST_CONVERSIONS = 4


def steps(data: bytes) -> list[Step]:
    """The operators of an ONNX file, in running order."""
    arrays, nodes = constants(data), list(parsed(data).graph.node)
    found = []
    for node in nodes:
        held = {}
        for slot, name in enumerate(node.input):
            if name in arrays:
                role = ROLES.get(node.op_type, {}).get(slot, "") or _role_after_conversion(nodes, node) or "operand"
                held[f"input {slot}"] = Held(role, name, arrays[name])
        found.append(
            Step(
                name=node.output[0],
                kind=node.op_type,
                reads=tuple(node.input),
                options={a.name: option_text(helper.get_attribute_value(a)) for a in node.attribute},
                held=held,
                only_bounds=node.op_type in BOUNDING,
            )
        )
    return found


def _role_after_conversion(nodes: list[Any], node: Any) -> str:
    """What a constant that goes through conversions is to the operator that reads their result."""
    for _ in range(_MOST_CONVERSIONS):
        if node.op_type not in _CONVERSIONS:
            return ""
        reader = next((n for n in nodes if node.output[0] in n.input), None)
        if reader is None:
            return ""
        role = ROLES.get(reader.op_type, {}).get(list(reader.input).index(node.output[0]), "")
        if role:
            return role
        node = reader
    return ""
