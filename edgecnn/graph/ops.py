"""The operators of the graph: one frozen class each, with its meaning, its checks and its shape rule.

Layout is torch's: images are (N, C, H, W), convolution weights (out, in / groups, kernel height, kernel width). Axis 0
of every value is the batch and is 1 in a graph's shapes. Fields that name values are listed in ``VALUES``; weights are
values too, constants of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from edgecnn.graph.elementwise import (
    Abs,
    Add,
    Clamp,
    Div,
    Elu,
    Erf,
    Exp,
    Gelu,
    HardSwish,
    LeakyRelu,
    Log,
    LogSoftmax,
    Maximum,
    Minimum,
    Mul,
    Pow,
    PRelu,
    Relu,
    Rsqrt,
    Sigmoid,
    Sign,
    Softmax,
    Softplus,
    Sqrt,
    Sub,
    Tanh,
)
from edgecnn.graph.opbase import NO_PADDING, Activation, Pair, ValueName
from edgecnn.graph.rearranging import (
    Concat,
    DepthToSpace,
    Gather,
    GatherImage,
    Pad,
    Reshape,
    ResizeBilinear,
    Slice,
    SpaceToDepth,
    Transpose,
)
from edgecnn.graph.reductions import Amax, Amin, ArgMax, Mean, Sum
from edgecnn.graph.shapes import Padding
from edgecnn.graph.windowed import AvgPool2d, Conv2d, ConvTranspose2d, Linear, MatMul, MaxPool2d

__all__ = [
    "NO_PADDING",
    "OPS",
    "Abs",
    "Activation",
    "Add",
    "Amax",
    "Amin",
    "ArgMax",
    "AvgPool2d",
    "Binary",
    "Clamp",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "DepthToSpace",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Extreme",
    "Gather",
    "GatherImage",
    "Gelu",
    "HardSwish",
    "LeakyRelu",
    "Linear",
    "Log",
    "LogSoftmax",
    "MatMul",
    "MaxPool2d",
    "Maximum",
    "Mean",
    "Minimum",
    "Mul",
    "Op",
    "PRelu",
    "Pad",
    "Padding",
    "Pair",
    "Pow",
    "Reduction",
    "Relu",
    "Reshape",
    "ResizeBilinear",
    "Rsqrt",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unary",
    "ValueName",
    "inputs_of",
    "with_inputs",
]

Binary = Add | Sub | Mul | Div
Extreme = Minimum | Maximum
Reduction = Mean | Sum | Amax | Amin
Unary = (
    Relu
    | Clamp
    | Sigmoid
    | Tanh
    | LeakyRelu
    | Elu
    | Gelu
    | HardSwish
    | Softplus
    | Abs
    | Sign
    | Exp
    | Log
    | Sqrt
    | Rsqrt
    | Erf
    | Pow
)
Op = (
    Conv2d
    | ConvTranspose2d
    | Linear
    | MatMul
    | MaxPool2d
    | AvgPool2d
    | Reduction
    | ArgMax
    | Unary
    | PRelu
    | Softmax
    | LogSoftmax
    | Binary
    | Extreme
    | Concat
    | Reshape
    | Transpose
    | Pad
    | Slice
    | Gather
    | GatherImage
    | DepthToSpace
    | SpaceToDepth
    | ResizeBilinear
)
OPS: tuple[type[Op], ...] = get_args(Op)


def inputs_of(op: Op) -> tuple[ValueName, ...]:
    """The names of the values that an operator reads, in the order of its fields."""
    names: list[ValueName] = []
    for field in op.VALUES:
        value = getattr(op, field)
        names.extend(value if isinstance(value, tuple) else () if value is None else (value,))
    return tuple(names)


def with_inputs(op: Op, renamed: Mapping[ValueName, ValueName]) -> Op:
    """A copy of the operator that reads ``renamed[name]`` in place of ``name``."""
    changes: dict[str, object] = {}
    for field in op.VALUES:
        value = getattr(op, field)
        new = tuple(renamed.get(v, v) for v in value) if isinstance(value, tuple) else renamed.get(value, value)
        if new != value:
            changes[field] = new
    return replace(op, **changes) if changes else op  # type: ignore[arg-type]
