"""int8 in ONNX with layers that compute their integers in float32, exactly: see export/onnx/int8/exact_float_layers.py.

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

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto

from edgecnn.export.onnx.int8.exact_float_layers import exact_float_layers
from edgecnn.export.onnx.int8.fold import LOWERINGS as FOLDED
from edgecnn.export.onnx.int8.fold import FoldingWriter
from edgecnn.export.onnx.int8.qdq import OFFSET
from edgecnn.export.onnx.lower import conv_attributes, pool_attributes
from edgecnn.export.written import Place, Written
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Conv2d, MaxPool2d, Op, ValueName
from edgecnn.program.qparams import INT8_MAX, INT8_MIN, Int8, bounds
from edgecnn.program.quantized import QuantizedGraph

METADATA = "edgecnn.exact_float"
"""Key of the model's metadata for a JSON object: ``layers``, and ``tensors`` that hold their whole numbers as float."""
BLOCK = 16
"""Channels of a block in ONNX Runtime's blocked layout, with AVX-512."""
WIDTH = 4
"""Its integer convolution is faster with multiples of so many input channels."""
ROUNDER = np.float32(1.5 * 2**23)
"""Float32 numbers near it are the whole numbers: adding it to small numbers rounds them, half to even."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Accumulators: their tensor, the layer that they are of, and the channels that the tensor has, zeros included."""

    tensor: str
    layer: Node
    channels: int


class ExactFloatWriter(FoldingWriter):
    """The int8 writer, with the layers that `exact_float_layers` names in float."""

    def __init__(
        self,
        graph: Graph,
        opset: int,
        quantized: QuantizedGraph,
        io: str = "float32",
        wide: Mapping[ValueName, int] = MappingProxyType({}),
    ) -> None:
        self.exact = exact_float_layers(quantized)
        self._sums: dict[ValueName, Sums] = {}
        self._widened: dict[ValueName, int] = {}
        self._made: set[str] = set()
        super().__init__(graph, opset, quantized, io, wide)

    def tensor(self, value: ValueName) -> str:
        """A value as the present node takes it; accumulators become integers first."""
        self._settle(value)
        return super().tensor(value)

    def write_exact(self, node: Node, op: Conv2d) -> None:
        """Add an exact layer's Conv. Its accumulators become what readers ask for."""
        weights, bias, name = self._q.weights[op.weight].integers, self._q.biases[node.name], op.weight
        extra = -len(bias) % BLOCK if self._only_pooled(node.name) else 0
        if extra:  # whole blocks: ONNX Runtime then pools in its blocked layout
            weights, bias = np.pad(weights, ((0, extra), *((0, 0),) * 3)), np.pad(bias, (0, extra))
            name = f"{node.name}.weights"
        # As int8 they are small in the file; ONNX Runtime folds the Cast when it loads it.
        whole = self._once("Cast", [self.initializer(f"{name}.q", weights)], f"{name}.exact", to=TensorProto.FLOAT)
        biases = self.initializer(f"{node.name}.bias.exact", bias.astype(np.float32))
        inputs = [self._whole(op.x), whole, biases]
        sums = self._once("Conv", inputs, f"{node.name}.sums", name=node.name, **conv_attributes(self, op))
        self._sums[node.name] = Sums(sums, node, len(bias))

    def pools_sums(self, op: MaxPool2d) -> bool:
        """Whether a pooling takes accumulators: it does where poolings are all that reads them."""
        return op.x in self._sums and self._only_pooled(op.x)

    def write_pool(self, node: Node, op: MaxPool2d) -> None:
        """Add a MaxPool of accumulators."""
        sums = self._sums[op.x]
        pooled = self._once("MaxPool", [sums.tensor], f"{node.name}.sums", name=node.name, **pool_attributes(self, op))
        self._sums[node.name] = replace(sums, tensor=pooled)

    def widen(self, op: Conv2d) -> None:
        """Let a quantized convolution read channels of zeros too, up to a number that its kernel is faster with.

        Does not apply where something else reads the image or the weights, nor to odd numbers of channels: other
        products would be paired than those that :mod:`edgecnn.export.onnx.int8.saturation` looks at.
        """
        alone = self.graph.uses[op.x] == self.graph.uses[op.weight] == 1
        if alone and op.groups == 1 and op.x in self._sums:
            channels = self._sums[op.x].layer.shape[1]
            if channels % 2 == 0:
                self._widened[op.x] = self._widened[op.weight] = channels + -channels % WIDTH

    def finish(self, *, version: str) -> Written:
        """Serialize, with the exact layers named in the metadata and in a note."""
        self._current = None
        for output in self.graph.outputs:
            self._settle(output.value)
        layers = [n.name for n in self.graph.nodes if n.name in self.exact]
        if layers:
            self.metadata[METADATA] = json.dumps({"layers": layers, "tensors": sorted(self._made)})
            self._notes.append(
                f"{', '.join(layers)}: the same integers, computed in float32 (exactly: no sum reaches 2^24), where"
                " ONNX Runtime is faster"
            )
        return super().finish(version=version)

    def places(self, value: ValueName) -> list[Place]:
        """The tensors that hold a value, as accumulators, as whole numbers in float, and as integers."""
        axes, found = self._identity(value), []
        if value in self._sums:
            sums = self._sums[value]
            found.append(
                Place(tensor=sums.tensor, axes=axes, form="sums", layer=sums.layer.name, channels=sums.channels)
            )
        whole = [t for t in (f"{value}.rounded", f"{value}.exact") if t in self._made]
        found += [Place(tensor=tensor, axes=axes, form="centered") for tensor in whole]
        wide = self._widened.get(value, self._wide.get(value, 0))
        return found + [replace(place, channels=wide) for place in super().places(value)]

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

    def _integer_weights(self, value: ValueName) -> Int8:
        weights = super()._integer_weights(value)
        extra = self._widened.get(value, weights.shape[1]) - weights.shape[1]
        return np.pad(weights, ((0, 0), (0, extra), (0, 0), (0, 0))) if extra else weights

    def _only_pooled(self, value: ValueName) -> bool:
        readers = [n for n in self.graph.nodes if value in n.inputs]
        pooled = all(isinstance(n.op, MaxPool2d) and n.name not in self.skipped for n in readers)
        return pooled and all(o.value != value for o in self.graph.outputs)

    def _scaled(self, value: ValueName, *, saturates: bool) -> str:
        """Accumulators times their multiplier, clamped unless what comes next does it by itself."""
        sums, params = self._sums[value], self._q.activations[value]
        op: Any = sums.layer.op
        channels = self._widened.get(value, sums.layer.shape[1])
        factors = (self._q.activations[op.x].scale * self._q.weights[op.weight].scales) / params.scale
        if channels == sums.channels == len(factors):
            matrix, groups = factors[:, None], channels
        else:  # leaves channels out, or adds channels of zeros; a product plus zeros is that product
            matrix, groups = np.zeros((channels, sums.channels), np.float32), None
            np.fill_diagonal(matrix[: len(factors)], factors)
        kernel = self.initializer(f"{value}.factors", matrix[:, :, None, None])
        scaled = self._once("Conv", [sums.tensor, kernel], f"{value}.scaled", kernel_shape=[1, 1], group=groups)
        low, high = bounds(params, op.activation)
        if saturates and (low, high) == (INT8_MIN, INT8_MAX):
            return scaled
        return self._clipped(scaled, f"{value}.clamped", low - params.zero_point, high - params.zero_point)

    def _clipped(self, x: str, name: str, low: int, high: int) -> str:
        return self._once("Clip", [x, self._number(np.float32(low)), self._number(np.float32(high))], name)

    def _once(self, operator: str, inputs: Sequence[str], result: str, **attributes: Any) -> str:
        """Add an ONNX node at its first use."""
        if result not in self._made:
            self._made.add(result)
            self.node(operator, inputs, result, **attributes)
        return result

    def _whole(self, value: ValueName) -> str:
        """``integer - zero point`` of a value as float32."""
        params = self._q.activations[value]
        if value in self._sums:
            return self._rounded(value, self._scaled(value, saturates=False))
        if self._io == "float32" and value in {i.name for i in self.graph.inputs}:
            low, high = INT8_MIN - params.zero_point, INT8_MAX - params.zero_point
            return self._once(
                "Round", [self._clipped(self._steps(value), f"{value}.clamped", low, high)], f"{value}.exact"
            )
        self.tensor(value)
        whole = self._once("Cast", [self._integers[value]], f"{value}.exact.cast", to=TensorProto.FLOAT)
        zero = np.float32(params.zero_point + OFFSET)
        return self._once("Sub", [whole, self._number(zero)], f"{value}.exact") if zero else whole

    def _rounded(self, value: ValueName, x: str) -> str:
        """Images rounded half to even by Convs, each one sum of two numbers per element."""
        channels = self._sums[value].layer.shape[1]
        ones = self.initializer(f"ones:{channels}", np.ones((channels, 1, 1, 1), np.float32))
        for step, term in ((".above", ROUNDER), (".rounded", -ROUNDER)):
            terms = self.initializer(f"terms:{channels}{step}", np.full(channels, term, np.float32))
            x = self._once("Conv", [x, ones, terms], f"{value}{step}", kernel_shape=[1, 1], group=channels)
        return x


def lower_conv2d(w: ExactFloatWriter, node: Node, op: Conv2d) -> None:
    """Conv of integers in float32, or as in :mod:`~edgecnn.export.onnx.int8.fold`."""
    if node.name in w.exact:
        w.enter(node)
        w.write_exact(node, op)
    else:
        if node.name not in w.skipped and node.name not in w.folds:
            w.widen(op)
        FOLDED[Conv2d](w, node, op)


def lower_max_pool2d(w: ExactFloatWriter, node: Node, op: MaxPool2d) -> None:
    """MaxPool of accumulators, or as in :mod:`~edgecnn.export.onnx.int8.fold`."""
    if w.pools_sums(op):
        w.enter(node)
        w.write_pool(node, op)
    else:
        FOLDED[MaxPool2d](w, node, op)


LOWERINGS: Mapping[type[Op], Callable[[ExactFloatWriter, Node, Any], None]] = MappingProxyType(
    {**FOLDED, Conv2d: lower_conv2d, MaxPool2d: lower_max_pool2d}
)
