"""What ONNX Runtime does with the channels of images between its integer convolutions, as seen with version 1.31."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecnn.graph import ops
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Op, ValueName

IMAGE = 4
"""Axes of an image."""
CHANNELS = 1
"""The axis of an image's channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """What holds for an operator on images.

    Attributes:
        separate: Output channel c depends only on input channel c, whatever the other channels hold.
        any_layout: ONNX Runtime computes it on images as they are stored, so that channels stored last stay last.
    """

    separate: bool
    any_layout: bool


_BOTH = Channels(separate=True, any_layout=True)
_SEPARATE = Channels(separate=True, any_layout=False)

OPERATORS: Mapping[type[Op], Channels] = MappingProxyType(
    {
        # Integer kernels that take channels last as well as first.
        ops.MaxPool2d: _BOTH,
        ops.AvgPool2d: _BOTH,
        ops.Add: _BOTH,
        ops.Mul: _BOTH,
        # Become the range of a QuantizeLinear or a Clip of integers, element by element.
        ops.Relu: _BOTH,
        ops.Clamp: _BOTH,
        # Work element by element; that images stay channels last there is not relied on.
        ops.HardSwish: _SEPARATE,
        ops.Sigmoid: _SEPARATE,
        ops.Tanh: _SEPARATE,
        ops.LeakyRelu: _SEPARATE,
        ops.Elu: _SEPARATE,
        ops.Gelu: _SEPARATE,
        ops.PRelu: _SEPARATE,
        ops.Sub: _SEPARATE,
        ops.Minimum: _SEPARATE,
        ops.Maximum: _SEPARATE,
        # GlobalAveragePool has a kernel for channels last; see `keeps_channels_apart` for means over images.
        ops.Mean: Channels(separate=False, any_layout=True),
        # Is written on images as they are stored; along the channels it takes a part of them.
        ops.Slice: Channels(separate=False, any_layout=True),
    }
)
"""Of operators without a row neither is relied on."""


def keeps_channels_apart(graph: Graph, node: Node) -> bool:
    """Whether output channel c of an image depends only on channel c of the images that a node reads."""
    match node.op:
        case ops.Mean(keepdim=True, axes=axes):
            separate = sorted(axes) == [2, 3]
        case op:
            separate = type(op) in OPERATORS and OPERATORS[type(op)].separate
    shapes = [graph.shapes[name] for name in computed_inputs(graph, node)]
    return separate and all(len(s) == IMAGE and s[CHANNELS] == node.shape[CHANNELS] for s in [*shapes, node.shape])


def takes_any_layout(node: Node) -> bool:
    """Whether ONNX Runtime computes a node on images as they are stored."""
    return type(node.op) in OPERATORS and OPERATORS[type(node.op)].any_layout


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution of each channel by itself."""
    op = node.op
    return isinstance(op, ops.Conv2d) and op.groups == graph.shapes[op.x][CHANNELS] == node.shape[CHANNELS]


def computed_inputs(graph: Graph, node: Node) -> tuple[ValueName, ...]:
    """The values that a node reads, without constants."""
    return tuple(name for name in node.inputs if name not in graph.constants)
