"""Which layers ONNX files hold as integers in float32: the same numbers, from kernels that are faster for such layers.

Every sum of a convolution is a whole number. While none can reach 2^24, float32 holds each of them exactly, in whatever
order they are added. ONNX Runtime's integer convolution takes a slow path where there are few channels to add over, and
its float kernel does not. The choice is made from shapes, as measured on x86 (docs/quantization.md); which layers they
are changes no result anywhere.
"""

from __future__ import annotations

import numpy as np

from edgecnn.export.onnx.int8.folding import folds
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Conv2d, ValueName
from edgecnn.program.quantized import QuantizedGraph

EXACT_BELOW = 2**24
"""Whole numbers below it are exact in float32."""
MOST_INPUTS = 3
"""Channels that a convolution adds over, up to which the float kernel is the faster one."""
DEPTHWISE_WIDTH = 8
"""Channels that ONNX Runtime's depthwise kernel for integers takes at once; it is slow where some are left over."""


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
    op, channels = node.op, q.graph.shapes[node.op.x][1]
    if op.groups == 1:
        return channels <= MOST_INPUTS
    depthwise = op.groups == channels == node.shape[1]
    return depthwise and op.stride == (1, 1) and (channels % DEPTHWISE_WIDTH != 0 or channels == DEPTHWISE_WIDTH)
