"""int8 in ONNX with layers that compute their integers in float32, exactly: see edgecnn/quantize/exact_float.py.

Such a layer reads ``integer - zero point`` as float32, where padding with 0 is padding with the zero point. Its Conv has
the integer weights and biases and gives the accumulators. A Conv with one number per channel multiplies them, one
product each, so that nothing is added before it is rounded; it is no Mul, since ONNX Runtime would multiply the weights
by that. What follows rounds half to even and clamps: QuantizeLinear with the scale 1, or for the next such layer a Clip
(before rounding, which keeps its whole bounds) and two more Convs that add 1.5 * 2^23 and take it off again, since
ONNX Runtime keeps images in its blocked layout from Conv to Conv. Max poolings of accumulators come before all that:
multiplying and rounding keep the order of numbers, and fewer are left to multiply.

No DequantizeLinear gives what these nodes read: ONNX Runtime would quantize their float weights by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto

from edgecnn.export.onnx.lower import conv_attributes, pool_attributes
from edgecnn.export.onnx.mixed import LOWERINGS as MIXED
from edgecnn.export.onnx.mixed import MixedQdqWriter
from edgecnn.export.onnx.qdq import OFFSET
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph, Node, Output
from edgecnn.graph.ops import Conv2d, MaxPool2d, Op, ValueName
from edgecnn.graph.qparams import HIGHEST, LOWEST, bounds
from edgecnn.quantize.exact_float import exact_float_layers
from edgecnn.quantize.quantize import QuantizedGraph

METADATA = "edgecnn.exact_float"
"""Key of the model's metadata under which the layers are named, as a JSON list."""
STEPS = ("", ".scaled", ".above", ".rounded")
"""What the names of a layer's Convs end in."""
ROUNDER = np.float32(1.5 * 2**23)
"""Float32 numbers near it are the whole numbers: adding it to small numbers rounds them, half to even."""


class ExactFloatWriter(MixedQdqWriter):
    """The int8 writer, with the layers that :func:`~edgecnn.quantize.exact_float.exact_float_layers` names in float."""

    def __init__(self, graph: Graph, opset: int, quantized: QuantizedGraph, io: str = "float32") -> None:
        self.exact = exact_float_layers(quantized)
        self._casts: set[str] = set()
        self._sums: dict[ValueName, tuple[str, Node]] = {}
        self._exact_values: dict[ValueName, str] = {}
        super().__init__(graph, opset, quantized, io)

    def tensor(self, value: ValueName) -> str:
        """A value as the present node takes it; accumulators become integers first."""
        self._settle(value)
        return super().tensor(value)

    def write_exact(self, node: Node, op: Conv2d) -> None:
        """Add an exact layer's Conv. Its accumulators become what readers ask for."""
        weights = self.initializer(f"{op.weight}.q", self._q.weights[op.weight].integers)
        if f"{op.weight}.whole" not in self._casts:  # ONNX Runtime folds it when it loads the file
            self._casts.add(f"{op.weight}.whole")
            self.node("Cast", [weights], f"{op.weight}.whole", to=TensorProto.FLOAT)
        bias = self.initializer(f"{node.name}.bias.whole", self._q.biases[node.name].astype(np.float32))
        inputs = [self._whole(op.x), f"{op.weight}.whole", bias]
        sums = self.node("Conv", inputs, f"{node.name}.sums", name=node.name, **conv_attributes(self, op))
        self._sums[node.name] = sums, node

    def pools_sums(self, op: MaxPool2d) -> bool:
        """Whether a pooling takes accumulators: it does where poolings are all that reads them."""
        readers = [n for n in self.graph.nodes if op.x in n.inputs]
        pooled = all(isinstance(n.op, MaxPool2d) and n.name not in self._q.skipped for n in readers)
        return op.x in self._sums and pooled and all(o.value != op.x for o in self.graph.outputs)

    def write_pool(self, node: Node, op: MaxPool2d) -> None:
        """Add a MaxPool of accumulators."""
        sums, layer = self._sums[op.x]
        pooled = self.node("MaxPool", [sums], f"{node.name}.sums", name=node.name, **pool_attributes(self, op))
        self._sums[node.name] = pooled, layer

    def finish(self, *, version: str) -> Written:
        """Serialize, with the exact layers named in the metadata and in a note."""
        self._current = None
        for output in self.graph.outputs:
            self._settle(output.value)
        layers = [n.name for n in self.graph.nodes if n.name in self.exact]
        if layers:
            self.metadata[METADATA] = json.dumps(layers)
            self._notes.append(
                f"{', '.join(layers)}: the same integers, computed in float32 (exactly: no sum reaches 2^24), where"
                " ONNX Runtime is faster"
            )
        return super().finish(version=version)

    def _settle(self, value: ValueName) -> None:
        """Make the integers of a value that there are only accumulators of."""
        if value not in self._sums or value in self._dequantized:
            return
        scale, zero = self._params(self._q.activations[value])
        one = self.initializer("scale:1.0", np.array(1, np.float32))
        scaled = self._scaled(value, saturates=True)
        self._integers[value] = self.node("QuantizeLinear", [scaled, one, zero], f"{value}.q")
        result = self.result(self.graph.producers[value])
        inputs = [self._integers[value], scale, zero]
        self._dequantized[value] = self.node("DequantizeLinear", inputs, result, name=f"{result}.dequantize")

    def _scaled(self, value: ValueName, *, saturates: bool) -> str:
        """Accumulators times their multiplier, clamped unless what comes next does it by itself."""
        sums, layer = self._sums[value]
        params, channels = self._q.activations[value], layer.shape[1]
        op: Any = layer.op
        multiplier = self._q.activations[op.x].scale * self._q.weights[op.weight].scales / params.scale
        factors = self.initializer(f"{value}.multiplier", multiplier.astype(np.float32).reshape(-1, 1, 1, 1))
        name = f"{value}.scaled"
        scaled = self.node("Conv", [sums, factors], name, kernel_shape=[1, 1], group=channels)
        low, high = bounds(params, op.activation)
        if saturates and (low, high) == (LOWEST, HIGHEST):
            return scaled
        return self._clipped(scaled, f"{value}.clamped", low - params.zero_point, high - params.zero_point)

    def _clipped(self, x: str, name: str, low: int, high: int) -> str:
        return self.node("Clip", [x, self._number(np.float32(low)), self._number(np.float32(high))], name)

    def _whole(self, value: ValueName) -> str:
        """``integer - zero point`` of a value as float32, made once."""
        if value not in self._exact_values:
            self._exact_values[value] = self._make_whole(value)
        return self._exact_values[value]

    def _make_whole(self, value: ValueName) -> str:
        params = self._q.activations[value]
        if value in self._sums:
            return self._rounded(value, self._scaled(value, saturates=False))
        if self._io == "float32" and value in {i.name for i in self.graph.inputs}:
            low, high = LOWEST - params.zero_point, HIGHEST - params.zero_point
            return self.node(
                "Round", [self._clipped(f"{value}.steps", f"{value}.clamped", low, high)], f"{value}.exact"
            )
        self.tensor(value)
        zero = np.float32(params.zero_point + OFFSET)
        whole = self.node("Cast", [self._integers[value]], f"{value}.exact.cast", to=TensorProto.FLOAT)
        return self.node("Sub", [whole, self._number(zero)], f"{value}.exact") if zero else whole

    def _rounded(self, value: ValueName, x: str) -> str:
        """Images rounded half to even by Convs, each one sum of two numbers per element."""
        channels = self._sums[value][1].shape[1]
        ones = self.initializer(f"ones:{channels}", np.ones((channels, 1, 1, 1), np.float32))
        for step, term in ((".above", ROUNDER), (".rounded", -ROUNDER)):
            terms = self.initializer(f"terms:{channels}{step}", np.full(channels, term, np.float32))
            x = self.node("Conv", [x, ones, terms], f"{value}{step}", kernel_shape=[1, 1], group=channels)
        return x

    def _place_output(self, output: Output) -> None:
        self._settle(output.value)
        super()._place_output(output)


def lower_conv2d(w: ExactFloatWriter, node: Node, op: Conv2d) -> None:
    """Conv of integers in float32, or as in :mod:`~edgecnn.export.onnx.mixed`."""
    if node.name in w.exact:
        w.enter(node)
        w.write_exact(node, op)
    else:
        MIXED[Conv2d](w, node, op)


def lower_max_pool2d(w: ExactFloatWriter, node: Node, op: MaxPool2d) -> None:
    """MaxPool of accumulators, or as in :mod:`~edgecnn.export.onnx.mixed`."""
    if w.pools_sums(op):
        w.enter(node)
        w.write_pool(node, op)
    else:
        MIXED[MaxPool2d](w, node, op)


LOWERINGS: Mapping[type[Op], Callable[[ExactFloatWriter, Node, Any], None]] = MappingProxyType(
    {**MIXED, Conv2d: lower_conv2d, MaxPool2d: lower_max_pool2d}
)
