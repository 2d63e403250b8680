"""The graph as an int8-dynamic file computes it: int8 weights, inputs quantized at run time, float32 results.

Each sample of a convolution's input, and each row of a linear layer's input, has its own scale and zero point, from the
smallest and largest of its values and 0. Accumulators are exact integers. The result is the accumulator times the
scales of input and weights, plus the bias, in float32. Runtimes quantize the input by one of two rules:

- ``xnnpack`` (LiteRT's default): in float32, rounded half to even
  (``xnn_f32_qd8_asymmetric_quantization_params`` in XNNPACK's src/xnnpack/quantization.h). A 1x1 convolution
  without stride is a linear layer there, with a scale for each pixel. Results are equal, bit for bit.
- ``tflite`` (LiteRT without XNNPACK): scale and zero point in float64, rounded half away from zero
  (``PortableAsymmetricQuantizeFloats`` in tensorflow/lite/kernels/internal/reference/portable_tensor_utils.cc). Results
  differ in the last bits, because factors are multiplied in another order.

Depthwise convolutions compute in float32 with their dequantized weights. All other operators compute in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgecnn.golden.float import EXECUTORS
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Activation, Conv2d, Linear, ValueName
from edgecnn.graph.verify import batch_is_free
from edgecnn.program.half_weights import weighted_nodes
from edgecnn.program.integer_weights import quantize_weights
from edgecnn.program.qparams import Float, QWeights

Quantized = tuple[Float, Float]
"""Integers minus their zero point, and scales."""
Quantize = Callable[[Float], Quantized]
_LOW, _HIGH = np.float32(-128), np.float32(127)


def execute_dynamic(graph: Graph, inputs: Sequence[Float], *, rule: str) -> dict[ValueName, npt.NDArray[Any]]:
    """Every value of the graph, by name, for inputs (samples, ...).

    Args:
        graph: The float graph, legalized for TFLite.
        inputs: One array per input.
        rule: A name of :data:`RULES`.
    """
    program = DynamicGraph(graph)
    if batch_is_free(graph):
        return program.run(inputs, rule)
    rows = [program.run([a[i : i + 1] for a in inputs], rule) for i in range(len(inputs[0]))]
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


class DynamicGraph:
    """A float graph whose weights are int8.

    Raises:
        QuantizationError: if a layer's weights are too small to be quantized.
    """

    def __init__(self, graph: Graph) -> None:
        layers = weighted_nodes(graph)
        self._weights = {name: quantize_weights(node, graph.constants[name]) for name, node in layers.items()}
        rounded = {name: weights.dequantize() for name, weights in self._weights.items()}
        self._graph = replace(graph, constants=MappingProxyType({**graph.constants, **rounded}))

    def run(self, inputs: Sequence[Float], rule: str) -> dict[ValueName, npt.NDArray[Any]]:
        """Every value, for inputs (samples, ...)."""
        values: dict[ValueName, npt.NDArray[Any]] = {i.name: a for i, a in zip(self._graph.inputs, inputs, strict=True)}
        for node in self._graph.nodes:
            values[node.name] = self.node(node, values, rule)
        return values

    def node(self, node: Node, values: Mapping[ValueName, npt.NDArray[Any]], rule: str) -> npt.NDArray[Any]:
        """One operator alone, on given values."""
        if isinstance(node.op, Conv2d | Linear) and self._is_hybrid(node.op):
            return self._hybrid(node.op, values[node.op.x], rule)
        known = {**self._graph.constants, **values}
        samples = next(len(values[name]) for name in node.inputs if name in values)
        with torch.no_grad():
            reads = [torch.from_numpy(np.array(known[name])) for name in node.inputs]
            result: npt.NDArray[Any] = EXECUTORS[type(node.op)](node.op, samples, *reads).numpy()
        activation: Activation = getattr(node.op, "activation", Activation.NONE)
        return result if activation is Activation.NONE else _clamped(result, activation)

    def _is_hybrid(self, op: Conv2d | Linear) -> bool:
        return op.weight in self._weights and not (isinstance(op, Conv2d) and op.groups > 1)

    def _hybrid(self, op: Conv2d | Linear, x: Float, rule: str) -> Float:
        weights: QWeights = self._weights[op.weight]
        flat = x.reshape(len(x), -1) if isinstance(op, Linear) and op.flatten else x
        integers, scales = _quantized(flat, _own_scales(op, weights, rule), RULES[rule])
        tensors = [torch.from_numpy(a.astype(np.float64)) for a in (integers, weights.integers)]
        sums = EXECUTORS[type(op)](op, len(x), *tensors).numpy()
        column = (-1, 1, 1) if isinstance(op, Conv2d) else (-1,)
        scaled = (sums.astype(np.float32) * scales).astype(np.float64)  # the rest is one fused multiply-add
        bias = 0.0 if op.bias is None else self._graph.constants[op.bias].astype(np.float64).reshape(column)
        real = (scaled * weights.scales.astype(np.float64).reshape(column) + bias).astype(np.float32)
        return _clamped(real, op.activation)


def _own_scales(op: Conv2d | Linear, weights: QWeights, rule: str) -> str:
    """The unit that has its own scale: a ``row`` of a linear layer, a ``place`` (pixel) of an image, or a ``sample``.

    XNNPACK computes a 1x1 convolution with stride 1 and without padding as a linear layer
    (``create_convolution_operator`` in its src/subgraph/convolution-2d.c).
    """
    if isinstance(op, Linear):
        return "row"
    single = weights.integers.shape[2:] == (1, 1) and op.stride == (1, 1) and not any(op.padding)
    return "place" if single and rule == "xnnpack" else "sample"


def _quantized(x: Float, own: str, quantize: Quantize) -> Quantized:
    """Integers minus their zero points, and scales that broadcast over a layer's result."""
    last = x.transpose(0, 2, 3, 1) if own == "place" else x
    rows = last.reshape(len(x), -1) if own == "sample" else last.reshape(-1, last.shape[-1])
    integers, scales = quantize(rows)
    back = integers.reshape(last.shape)
    if own == "sample":
        return back, scales.reshape(-1, *(1,) * (x.ndim - 1))
    spread = scales.reshape(*last.shape[:-1], 1)
    return (back.transpose(0, 3, 1, 2), spread.transpose(0, 3, 1, 2)) if own == "place" else (back, spread)


def _clamped(real: Float, activation: Activation) -> Float:
    low, high = activation.bounds
    result: Float = np.clip(real, np.float32(low), np.float32(high))
    return result


def _xnnpack(x: Float) -> Quantized:
    """Rows as XNNPACK quantizes them: it computes the inverse scale, and the scale as the inverse of that."""
    low, high = _range(x)
    empty = low == high
    inverse = np.where(empty, np.float32(1), np.float32(255) / np.where(empty, np.float32(1), high - low))
    inverse = inverse.astype(np.float32)
    steps_low, steps_high = low * inverse, high * inverse
    from_low = (_LOW + steps_low) + (_HIGH + steps_high) > 0
    zero = np.rint(np.clip(np.where(from_low, _LOW - steps_low, _HIGH - steps_high), _LOW, _HIGH))
    steps = np.rint(x * inverse) + zero
    return np.clip(steps, _LOW, _HIGH) - zero, (np.float32(1) / inverse).astype(np.float32)


def _tflite(x: Float) -> Quantized:
    """Rows as TFLite's own kernels quantize them; a row of zeros has the scale 1."""
    low, high = _range(x.astype(np.float64))
    scale = np.where(low == high, 1.0, (high - low) / 255)
    low, high = low / scale, high / scale
    nearer = _half_away(np.where(128 + np.abs(low) < 127 + np.abs(high), -128 - low, 127 - high))
    zero = np.clip(nearer, _LOW, _HIGH).astype(np.float32)
    single = scale.astype(np.float32)
    steps = _half_away(x * (np.float32(1) / single)) + zero
    return (np.clip(steps, _LOW, _HIGH) - zero).astype(np.float32), single


def _range(rows: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The smallest and largest of each row's values and 0, each (rows, 1)."""
    zero = rows.dtype.type(0)
    return np.minimum(rows.min(1, keepdims=True), zero), np.maximum(rows.max(1, keepdims=True), zero)


def _half_away(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    exact = values.astype(np.float64)
    away: npt.NDArray[np.float64] = np.copysign(np.floor(np.abs(exact) + 0.5), exact)
    return away


RULES: Mapping[str, Quantize] = MappingProxyType({"xnnpack": _xnnpack, "tflite": _tflite})
