"""Layers that compute their integers in float32, exactly (:mod:`edgecnn.export.onnx.int8.exact`), in the file.

Such a layer reads ``integer - zero point`` as float32, where padding with 0 is padding with the zero point. Its Conv
has the integer weights and biases and gives the accumulators. A Conv with one number per channel multiplies them, one
product each, so that nothing is added before it is rounded; it is no Mul, since ONNX Runtime would multiply the weights
by that. What follows rounds half to even and clamps: QuantizeLinear with the scale 1, or for the next such layer a Clip
(before rounding, which keeps its whole bounds) and two more Convs that add 1.5 * 2^23 and take it off again, since ONNX
Runtime keeps images in its blocked layout from Conv to Conv. Max poolings of accumulators come before all that:
multiplying and rounding keep the order of numbers, and fewer are left to multiply.

No DequantizeLinear gives what these nodes read: ONNX Runtime would quantize their float weights by itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import TensorProto

from edgecnn.export.onnx.file import OnnxFile
from edgecnn.export.onnx.int8.accumulators import Accumulators, Sums
from edgecnn.export.onnx.int8.nodes import OFFSET, AccumulatorPool, ExactConv, FileGraph, with_zeros
from edgecnn.export.onnx.int8.tensors import QuantizedTensors
from edgecnn.export.onnx.lower import conv_attributes, pool_attributes
from edgecnn.graph.ops import Conv2d, MaxPool2d, ValueName
from edgecnn.program.qparams import INT8_MAX, INT8_MIN


class ExactWriter:
    """Writes exact float convolutions and the poolings of their accumulators."""

    def __init__(
        self, file: OnnxFile, graph: FileGraph, tensors: QuantizedTensors, accumulators: Accumulators, io: str
    ) -> None:
        self._file, self._graph, self._tensors, self._accumulators = file, graph, tensors, accumulators
        self._real_inputs = {i.name for i in graph.graph.inputs} if io == "float32" else set()

    def write(self, n: ExactConv) -> None:
        """Add an exact layer's Conv. Its accumulators become what readers ask for."""
        node, op, q, once = n.node, n.node.op, self._graph.quantized, self._accumulators.once
        assert isinstance(op, Conv2d)
        weights, bias, name = q.weights[op.weight].integers, q.biases[node.name], op.weight
        if n.channels > len(bias):
            weights, bias = with_zeros(weights, (n.channels, *weights.shape[1:])), with_zeros(bias, (n.channels,))
            name = f"{node.name}.weights"
        # As int8 they are small in the file; ONNX Runtime folds the Cast when it loads it.
        stored = self._file.initializer(f"{name}.q", weights)
        whole = once("Cast", [stored], f"{name}.exact", to=TensorProto.FLOAT)
        biases = self._file.initializer(f"{node.name}.bias.exact", bias.astype(np.float32))
        inputs = [self._whole_numbers(op.x), whole, biases]
        attributes = conv_attributes(self._graph.graph, op)
        sums = once("Conv", inputs, f"{node.name}.sums", name=node.name, **attributes)
        self._accumulators.of[node.name] = Sums(sums, node, n.channels)

    def write_pool(self, n: AccumulatorPool) -> None:
        """Add a MaxPool of accumulators."""
        node, op = n.node, n.node.op
        assert isinstance(op, MaxPool2d)
        sums, attributes = self._accumulators.of[op.x], pool_attributes(self._graph.graph, op)
        pooled = self._accumulators.once("MaxPool", [sums.tensor], f"{node.name}.sums", name=node.name, **attributes)
        self._accumulators.of[node.name] = replace(sums, tensor=pooled)

    def _whole_numbers(self, value: ValueName) -> str:
        """``integer - zero point`` of a value as float32."""
        once, params = self._accumulators.once, self._graph.quantized.activations[value]
        if value in self._accumulators.of:
            return self._accumulators.rounded(value)
        if value in self._real_inputs:
            low, high = INT8_MIN - params.zero_point, INT8_MAX - params.zero_point
            steps = self._tensors.input_steps(value)
            return once("Round", [self._accumulators.clipped(steps, f"{value}.clamped", low, high)], f"{value}.exact")
        whole = once("Cast", [self._tensors.integers(value)], f"{value}.exact.cast", to=TensorProto.FLOAT)
        zero = params.zero_point + OFFSET
        return once("Sub", [whole, self._file.scalar(float(zero))], f"{value}.exact") if zero else whole
