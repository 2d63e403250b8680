"""Bias correction: remove the mean error that quantization leaves in each channel, layer by layer.

Rounding weights and activations shifts a channel's mean. After a mean over the image, that shift is most of the
remaining error (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019). Only the
biases of the integer program change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from edgecnn.golden.float import EXECUTORS, execute_float
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Conv2d, Linear
from edgecnn.program.integer_weights import INT32_MAX
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.types import Array


def correct_biases(q: QuantizedGraph, inputs: Sequence[npt.NDArray[np.float32]]) -> QuantizedGraph:
    """A quantized graph with biases that restore each channel's mean on these inputs to its mean in the float graph.

    Each layer is corrected after the layers before it. Float layers keep their biases, and so do convolutions in groups
    that are not depthwise: TFLite's legalization computes those biases again.

    Args:
        q: The quantized graph.
        inputs: Calibration samples, one array per graph input; about a hundred are enough.
    """
    from edgecnn.golden.integer import execute_node

    real = execute_float(q.graph, inputs)
    values: dict[str, Array] = {
        i.name: q.activations[i.name].quantize(a) for i, a in zip(q.graph.inputs, inputs, strict=True)
    }
    for node in q.graph.nodes:
        if node.name in q.biases and _is_correctable(q, node):
            q = replace(q, biases={**q.biases, node.name: _corrected(q, node, real, values)})
        values[node.name] = execute_node(q, node, values, rounding="half_even_fp32")
    return q


def _is_correctable(q: QuantizedGraph, node: Node) -> bool:
    match node.op:
        case Conv2d(x=x, groups=groups):
            return groups in (1, q.graph.shapes[x][1])
        case Linear():
            return True
    return False


def _corrected(
    q: QuantizedGraph, node: Node, real: dict[str, Array], values: dict[str, Array]
) -> npt.NDArray[np.int32]:
    from edgecnn.golden.float_layers import as_integers

    assert isinstance(node.op, Conv2d | Linear)
    x, weights = node.op.x, q.weights[node.op.weight]
    restored = q.activations[x].dequantize(as_integers(q, x, values[x]))
    exact = _linear(node, real[x], q.graph.constants[node.op.weight])
    lost = exact - _linear(node, restored, weights.dequantize())
    channel = 1 if isinstance(node.op, Conv2d) else lost.ndim - 1
    mean = lost.mean(axis=tuple(a for a in range(lost.ndim) if a != channel))
    scales = weights.scales.astype(np.float64) * float(q.activations[x].scale)
    limit = INT32_MAX - np.abs(weights.integers.reshape(len(scales), -1).astype(np.int64)).sum(axis=1) * 255
    bias: npt.NDArray[np.int32] = np.clip(q.biases[node.name] + np.rint(mean / scales), -limit, limit).astype(np.int32)
    return bias


def _linear(node: Node, x: Array, weight: Array) -> npt.NDArray[np.float64]:
    """The products of a layer, without bias and activation."""
    tensors = [torch.from_numpy(np.array(a)) for a in (x, weight)]
    with torch.no_grad():
        result = EXECUTORS[type(node.op)](node.op, len(x), *tensors)
    return np.asarray(result.numpy(), np.float64)
