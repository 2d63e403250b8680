"""The cost of a network, layer by layer: parameters, MACs, receptive field, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    DepthToSpace,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Pair,
    Reshape,
    ResizeBilinear,
    SpaceToDepth,
    Transpose,
    ValueName,
)
from edgecnn.graph.shapes import Shape, window_extent

BYTES = 4
"""Bytes of one float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One operator's cost.

    Attributes:
        name: The node's name, which contains the module's path.
        operator: The operator's kind.
        shape: Shape of its result, without the batch.
        parameters: Constants that it reads.
        macs: Multiply-accumulates of one sample; 0 for all but convolutions and linear layers.
        receptive_field: Rows and columns of the input that one element of the result depends on.
        activation_bytes: Size of the result in float32; 0 where it reuses the input's memory in another shape.
    """

    name: str
    operator: str
    shape: Shape
    parameters: int
    macs: int
    receptive_field: Pair
    activation_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A network's cost.

    Attributes:
        layers: One row per operator, in running order.
        parameters: All constants, each counted once.
        macs: Multiply-accumulates of one sample.
        peak_bytes: Most memory that activations occupy at one time, if each is freed after its last reader.
        peak_layer: The layer that runs at that time.
    """

    layers: tuple[LayerCost, ...]
    parameters: int
    macs: int
    peak_bytes: int
    peak_layer: str


@dataclass(frozen=True, slots=True)
class _Field:
    """A receptive field, and the distance between the fields of neighbouring elements, both as (rows, columns)."""

    size: Pair = (1, 1)
    jump: Pair = (1, 1)

    def through(self, kernel: Pair, stride: Pair = (1, 1), dilation: Pair = (1, 1)) -> _Field:
        extents = [window_extent(k, d) for k, d in zip(kernel, dilation, strict=True)]
        size = [s + (e - 1) * j for s, e, j in zip(self.size, extents, self.jump, strict=True)]
        jump = [j * s for j, s in zip(self.jump, stride, strict=True)]
        return _Field((size[0], size[1]), (jump[0], jump[1]))

    def spread(self, factors: Pair) -> _Field:
        """Fields of the same size whose neighbours lie closer together, but at least one input element apart."""
        return _Field(self.size, (max(self.jump[0] // factors[0], 1), max(self.jump[1] // factors[1], 1)))


def analyse(graph: Graph) -> Cost:
    """The cost of a graph for one sample.

    The receptive field follows Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (2016). It is
    not clipped at the image's borders; where branches meet, the larger field counts.
    """
    fields: dict[ValueName, _Field] = {i.name: _Field() for i in graph.inputs}
    layers = []
    for node in graph.nodes:
        fields[node.name] = _field(graph, node, fields)
        layers.append(
            LayerCost(
                name=node.name,
                operator=type(node.op).__name__,
                shape=node.shape[1:],
                parameters=sum(graph.constants[i].size for i in set(node.inputs) if i in graph.constants),
                macs=macs(graph, node),
                receptive_field=fields[node.name].size,
                activation_bytes=0 if _shares_memory(node) else math.prod(node.shape) * BYTES,
            )
        )
    peak, where = _peak(graph)
    return Cost(
        layers=tuple(layers),
        parameters=graph.parameters,
        macs=sum(layer.macs for layer in layers),
        peak_bytes=peak,
        peak_layer=where,
    )


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node for one sample."""
    match node.op:
        case Conv2d(weight=weight):
            return math.prod(node.shape[1:]) * math.prod(graph.shapes[weight][1:])
        case Linear(weight=weight):
            return math.prod(node.shape[1:]) * graph.shapes[weight][1]
        case ConvTranspose2d(x=x, weight=weight):
            return math.prod(graph.shapes[x][2:]) * math.prod(graph.shapes[weight])
        case MatMul(x=x):
            return math.prod(node.shape) * graph.shapes[x][-1]
    return 0


def _field(graph: Graph, node: Node, fields: Mapping[ValueName, _Field]) -> _Field:
    inputs = [fields[i] for i in node.inputs if i in fields]
    if not inputs:
        return _Field()
    joined = _Field(_largest([f.size for f in inputs]), _largest([f.jump for f in inputs]))
    x = graph.shapes[node.inputs[0]]
    match node.op:
        case Conv2d(weight=weight, stride=stride, dilation=dilation):
            kernel = graph.shapes[weight][2:]
            return joined.through((kernel[0], kernel[1]), stride, dilation)
        case ConvTranspose2d(weight=weight, stride=stride, dilation=dilation):
            kernel = graph.shapes[weight][2:]
            reach = [-(-window_extent(k, d) // s) for k, d, s in zip(kernel, dilation, stride, strict=True)]
            return joined.through((reach[0], reach[1])).spread(stride)
        case ResizeBilinear(to=to):
            return joined.through((2, 2)).spread((max(to[0] // x[2], 1), max(to[1] // x[3], 1)))
        case DepthToSpace(block=block):
            return joined.spread((block, block))
        case SpaceToDepth(block=block):
            return joined.through((block, block), (block, block))
        case MaxPool2d(kernel=pool, stride=stride, dilation=dilation):
            return joined.through(pool, stride, dilation)
        case AvgPool2d(kernel=pool, stride=stride):
            return joined.through(pool, stride)
        case Linear(flatten=True) if len(x) == 4:
            return joined.through((x[2], x[3]))
        case Mean(axes=axes) if len(x) == 4:
            return joined.through((x[2] if 2 in axes else 1, x[3] if 3 in axes else 1))
        case Reshape() if len(x) == 4 and len(node.shape) < 4:
            return joined.through((x[2], x[3]))
    return joined


def _largest(pairs: list[Pair]) -> Pair:
    return max(p[0] for p in pairs), max(p[1] for p in pairs)


def _shares_memory(node: Node) -> bool:
    return isinstance(node.op, Reshape | Transpose)


def _peak(graph: Graph) -> tuple[int, str]:
    """Most bytes alive at one time, and the node that runs at that time."""
    owner: dict[ValueName, ValueName] = {}
    last_use: dict[ValueName, int] = {}
    for step, node in enumerate(graph.nodes):
        owner[node.name] = owner.get(node.inputs[0], node.inputs[0]) if _shares_memory(node) else node.name
        for value in (*node.inputs, node.name):
            last_use[owner.get(value, value)] = step
    last_use.update((owner.get(o.value, o.value), len(graph.nodes)) for o in graph.outputs)
    alive = {i.name: math.prod(i.shape) * BYTES for i in graph.inputs}
    peak, where = sum(alive.values()), ""
    for step, node in enumerate(graph.nodes):
        if not _shares_memory(node):
            alive[node.name] = math.prod(node.shape) * BYTES
        if sum(alive.values()) > peak:
            peak, where = sum(alive.values()), node.name
        alive = {name: size for name, size in alive.items() if last_use.get(name, -1) > step}
    return peak, where
