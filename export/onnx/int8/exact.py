"""Which layers ONNX files hold as integers in float32: the same numbers, from kernels that are faster for such layers.

Every sum of a convolution is a whole number. While none can reach 2^24, float32 holds each of them exactly, in whatever
order they are added. ONNX Runtime's integer convolution takes a slow path where there are few channels to add over, and
its float kernel does not. The choice is made from shapes, as measured on x86 (docs/quantization.md); which layers they
are changes no result anywhere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecnn.export.onnx.int8.folding import folds
from edgecnn.export.onnx.int8.nodes import AccumulatorPool, ExactConv, FileGraph, IntegerNode, with_zeros
from edgecnn.export.onnx.int8.runtime_kernels import CHANNELS, is_depthwise
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Conv2d, MaxPool2d, ValueName
from edgecnn.program.quantized import QuantizedGraph

METADATA = "edgecnn.exact_float"
"""Key of the model's metadata for a JSON object: ``layers``, and ``tensors`` that hold their whole numbers as float."""
EXACT_BELOW = 2**24
"""Whole numbers below it are exact in float32."""
MOST_INPUTS = 3
"""Channels that a convolution adds over, up to which the float kernel is the faster one."""
DEPTHWISE_WIDTH = 8
"""Channels that ONNX Runtime's depthwise kernel for integers takes at once; it is slow where some are left over."""
BLOCK = 16
"""Channels of a block in ONNX Runtime's blocked layout, with AVX-512."""
WIDTH = 4
"""Input channels that its integer convolution is fast with: multiples of it."""


def exact_float_layers(q: QuantizedGraph) -> frozenset[ValueName]:
    """The nodes to be written as integers in float32: the kernel is faster, and no sum can reach 2^24."""
    nodes = [n for n in q.graph.nodes if isinstance(n.op, Conv2d) and n.name not in q.skipped]
    folded = folds(q)
    return frozenset(
        n.name
        for n in nodes
        if n.inputs[0] not in q.graph.constants and n.name not in folded and _pays(q, n) and sums_fit(q, n)
    )


def sums_fit(q: QuantizedGraph, node: Node) -> bool:
    """Whether every sum of products and bias, in any order, stays below 2^24: ``sum(|w|) * 255 + |bias|``."""
    assert isinstance(node.op, Conv2d)
    weights = q.weights[node.op.weight].integers
    reach = np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(axis=1) * 255
    return bool((reach + np.abs(q.biases[node.name].astype(np.int64)) < EXACT_BELOW).all())


def _pays(q: QuantizedGraph, node: Node) -> bool:
    """Few channels to add over; or depthwise without a stride, where channels are left over or fill the kernel once."""
    assert isinstance(node.op, Conv2d)
    channels = q.graph.shapes[node.op.x][CHANNELS]
    if node.op.groups == 1:
        return channels <= MOST_INPUTS
    odd = channels % DEPTHWISE_WIDTH != 0 or channels == DEPTHWISE_WIDTH
    return is_depthwise(q.graph, node) and node.op.stride == (1, 1) and odd


def exact_float_convolutions(graph: FileGraph) -> FileGraph:
    """Write convolutions as whole numbers in float32, where :func:`exact_float_layers` says so.

    Those that only poolings read get channels of zeros up to whole blocks: ONNX Runtime then pools in its blocked
    layout. Does not apply to folded convolutions, nor where a sum could reach 2^24.
    """
    exact = exact_float_layers(graph.quantized)
    return graph.with_nodes(_exact_conv(graph, n) for n in graph.graph.nodes if n.name in exact)


def _exact_conv(graph: FileGraph, node: Node) -> ExactConv:
    channels = node.shape[CHANNELS]
    return ExactConv(node, channels + (-channels % BLOCK if _is_only_pooled(graph, node.name) else 0))


def pooled_accumulators(graph: FileGraph) -> FileGraph:
    """Pool the accumulators of exact convolutions before they are scaled and rounded, which keeps the order of numbers.

    Does not apply where anything but int8 max poolings reads the accumulators, nor to outputs.
    """
    accumulated: set[ValueName] = set(graph.of_kind(ExactConv))
    pools = []
    for node in graph.graph.nodes:
        if isinstance(node.op, MaxPool2d) and node.op.x in accumulated and _is_only_pooled(graph, node.op.x):
            accumulated.add(node.name)
            pools.append(AccumulatorPool(node))
    return graph.with_nodes(pools)


def _is_only_pooled(graph: FileGraph, value: ValueName) -> bool:
    skipped = graph.quantized.skipped
    readers = [n for n in graph.graph.nodes if value in n.inputs]
    pooled = all(isinstance(n.op, MaxPool2d) and n.name not in skipped for n in readers)
    return pooled and all(o.value != value for o in graph.graph.outputs)


def widened_accumulators(graph: FileGraph) -> FileGraph:
    """Scale accumulators into images with channels of zeros, up to a number that the next convolution is faster with.

    Does not apply where anything else reads the image or the weights, nor to odd numbers of channels: other products
    would be added in pairs than those that :mod:`edgecnn.export.onnx.int8.saturation` looks at.
    """
    uses, accumulated = graph.graph.uses, {**graph.of_kind(ExactConv), **graph.of_kind(AccumulatorPool)}
    channels, weights = dict(graph.channels), dict(graph.quantized.weights)
    for node in graph.of_kind(IntegerNode).values():
        match node.node.op:
            case Conv2d(x=x, weight=weight, groups=1) if x in accumulated and uses[x] == uses[weight] == 1:
                own = graph.graph.shapes[x][CHANNELS]
                if own % 2 == 0:
                    channels[x] = own + -own % WIDTH
                    narrow = weights[weight].integers
                    shape = (len(narrow), channels[x], *narrow.shape[2:])
                    weights[weight] = replace(weights[weight], integers=with_zeros(narrow, shape))
    return replace(graph, quantized=replace(graph.quantized, weights=weights), channels=channels)
