"""The quantized graph executed in integers: what int8 runtimes compute, bit for bit where a rule is exact.

Accumulators are exact. Runtimes differ in how they rescale an accumulator to int8. Their rules have names:

- ``half_even_fp32`` (ONNX Runtime; the golden vectors of a bundle): the float32 accumulator times a float32
  multiplier, rounded half to even; sums and differences in float32 too, in ONNX Runtime's order.
- ``xnnpack`` (LiteRT's default): as ``half_even_fp32``, but sums of two values have fixed-point multipliers of 21 bits
  and are rounded half up; leaky ReLU and bilinear resizing have 8 and 11 bits; HARD_SWISH and BATCH_MATMUL, which
  XNNPACK leaves to TFLite's kernels, follow their arithmetic.
- ``gemmlowp`` (TFLite Micro): 31-bit fixed-point multipliers, rounded twice
  (tensorflow/lite/kernels/internal/common.h, ``MultiplyByQuantizedMultiplier``).
- ``tflite_runtime_reference`` (tflite-runtime 2.14 with its reference kernels): as ``gemmlowp``, but the multipliers
  of products are computed from float32 scales instead of float64.
- ``litert_reference`` (LiteRT with its reference kernels): as ``tflite_runtime_reference``, but linear layers are
  rounded once.

Operators without an accumulator (softmax, sigmoid ...) are computed in real arithmetic and rounded once, half to even.
Kernels with special integer arithmetic are in ``golden/kernels.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgecnn.golden.float import EXECUTORS
from edgecnn.golden.float_layers import integers_read, run_skipped
from edgecnn.golden.requantize import (
    Requantize,
    Sum,
    difference_in_float,
    fixed_point,
    gemmlowp,
    half_even_fp32,
    multiplied,
    negated,
    single_rounding,
    sum_in_float,
    sum_of_21_bits,
    sum_of_31_bits,
)
from edgecnn.golden.special_kernels import (
    Resize,
    hard_swish,
    leaky_relu_of_8_bits,
    leaky_relu_of_31_bits,
    resize_of_10_bits,
    resize_of_11_bits,
)
from edgecnn.graph import ops
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Activation, Op, ValueName
from edgecnn.graph.traits import traits_of
from edgecnn.graph.verify import batch_is_free
from edgecnn.program.qparams import Int8, QParams, bounds
from edgecnn.program.quantized import QuantizedGraph, integers_of


def execute_integer(
    q: QuantizedGraph,
    inputs: Sequence[Int8],
    *,
    rounding: str = "half_even_fp32",
    known: Mapping[ValueName, Int8] = MappingProxyType({}),
) -> dict[ValueName, Int8]:
    """Every value of a quantized graph, by name; those of nodes that stay float are float32.

    Args:
        q: The quantized graph.
        inputs: One int8 array per graph input, (samples, ...).
        rounding: A name of :data:`KERNEL_SETS`.
        known: Values that are taken as they are, their nodes not being executed.
    """
    return execute_by_rules(q, inputs, [rounding], known=known)[rounding]


def execute_by_rules(
    q: QuantizedGraph,
    inputs: Sequence[Int8],
    roundings: Sequence[str],
    *,
    known: Mapping[ValueName, Int8] = MappingProxyType({}),
) -> dict[str, dict[ValueName, Int8]]:
    """Every value by each of several rules of :data:`KERNEL_SETS`; values on which rules agree are computed once.

    Args:
        q: The quantized graph.
        inputs: One int8 array per graph input, (samples, ...).
        roundings: The rules.
        known: Values that are taken as they are, their nodes not being executed.
    """
    runs = {rounding: _Run(q, rounding) for rounding in roundings}
    given = {i.name: a for i, a in zip(q.graph.inputs, inputs, strict=True)}
    values: dict[str, dict[ValueName, Int8]] = {rounding: dict(given) for rounding in roundings}
    for node in q.graph.nodes:
        made: dict[tuple[Any, ...], Int8] = {}
        for rounding, run in runs.items():
            own = values[rounding]
            key = (run.arithmetic(node.op), *(id(own.get(i)) for i in node.inputs))
            if node.name in known:
                made[key] = known[node.name]
            elif key not in made:
                result = run.node(node, own)
                made[key] = next((same for same in made.values() if np.array_equal(same, result)), result)
            own[node.name] = made[key]
    return values


def execute_node(q: QuantizedGraph, node: Node, inputs: Mapping[ValueName, Int8], *, rounding: str) -> Int8:
    """One operator alone, on given integers."""
    return _Run(q, rounding).node(node, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSet:
    """The arithmetic of one runtime's kernels.

    Attributes:
        convolution: Rescales the accumulators of convolutions to int8.
        linear: Rescales the accumulators of linear layers to int8.
        sums: Adds two values.
        differences: Subtracts two values.
        leaky: Bits of the multipliers of leaky ReLUs; 0 if they are computed in real arithmetic.
        resize: The kernel of bilinear resizing; None if it is computed in real arithmetic.
        tflite: Whether operators that XNNPACK lacks run in TFLite's own kernels, or are real arithmetic.
        zero_first: Whether the zero point is added to a mean before rounding, which matters at ties.
        fixed_point: Whether all other operators multiply by 31-bit fixed-point numbers, or in float32.
        products: The type in which multipliers of products are computed.
    """

    convolution: Requantize
    linear: Requantize
    sums: Sum
    differences: Sum
    leaky: int = 0
    resize: Resize | None = None
    tflite: bool = False
    zero_first: bool = False
    fixed_point: bool = False
    products: type[np.floating[Any]] = np.float64


NONE = Activation.NONE
REFERENCE_BITS = 31
"""Bits of the multipliers of the reference kernels."""
_REFERENCE = KernelSet(
    convolution=gemmlowp,
    linear=gemmlowp,
    sums=sum_of_31_bits,
    differences=negated(sum_of_31_bits),
    leaky=31,
    resize=resize_of_10_bits,
    tflite=True,
    fixed_point=True,
)
KERNEL_SETS: Mapping[str, KernelSet] = MappingProxyType(
    {
        "half_even_fp32": KernelSet(
            convolution=half_even_fp32,
            linear=half_even_fp32,
            sums=sum_in_float,
            differences=difference_in_float,
        ),
        "xnnpack": KernelSet(
            convolution=half_even_fp32,
            linear=half_even_fp32,
            sums=sum_of_21_bits,
            differences=negated(sum_of_21_bits),
            leaky=8,
            resize=resize_of_11_bits,
            tflite=True,
            zero_first=True,
        ),
        "gemmlowp": _REFERENCE,
        "tflite_runtime_reference": replace(_REFERENCE, products=np.float32),
        "litert_reference": replace(_REFERENCE, products=np.float32, linear=single_rounding),
    }
)


class _Run:
    def __init__(self, q: QuantizedGraph, rounding: str) -> None:
        self._q, self._rounding = q, KERNEL_SETS[rounding]
        self._fixed_point = self._rounding.fixed_point
        self._batch_free = batch_is_free(q.graph)

    def node(self, node: Node, values: Mapping[ValueName, Int8]) -> Int8:
        if node.name in self._q.skipped:
            return run_skipped(self._q, node, values)
        values = integers_read(self._q, node, values)
        match node.op:
            case ops.Conv2d() | ops.Linear():
                return self._weighted(node, node.op, values[node.op.x])
            case _ if traits_of(node.op).moves_only:
                return self._moved(node, [self._integers(i, values) for i in node.inputs])
            case ops.Relu() | ops.Clamp():
                return self._clamped(node, node.op, values[node.op.x])
            case ops.Add() | ops.Sub():
                return self._sum(node, node.op, values)
            case ops.HardSwish() | ops.LeakyRelu() if self._rounding.tflite:
                return self._curved(node, node.op, values[node.op.x])
            case ops.ResizeBilinear() if self._rounding.resize is not None:
                return self._rounding.resize(node.op, values[node.op.x])
            case ops.MatMul() if self._rounding.tflite:
                return self._matrix_product(node, node.op, values)
            case ops.Mul():
                return self._product(node, node.op, values)
            case ops.AvgPool2d() if self._fixed_point:
                return self._average(node.op, values[node.op.x])
            case ops.Mean():
                return self._mean(node, node.op, values[node.op.x])
            case _:
                return self._real(node, values)

    def arithmetic(self, op: Op) -> object:
        """A key for the arithmetic of an operator: two rules with equal keys give the same integers."""
        rule = self._rounding
        match op:
            case ops.Conv2d():
                return rule.convolution
            case ops.Linear():
                return rule.linear
            case ops.Add() | ops.Sub():
                return rule.sums, rule.differences
            case ops.LeakyRelu():
                return rule.tflite, rule.leaky
            case ops.HardSwish() | ops.MatMul():
                return rule.tflite
            case ops.ResizeBilinear():
                return rule.resize
            case ops.Mean():
                return rule.fixed_point, rule.zero_first
            case ops.AvgPool2d() | ops.Mul() | ops.Relu() | ops.Clamp() | ops.Concat() | ops.Minimum() | ops.Maximum():
                return rule.fixed_point, rule.products
        return None

    def _samples(self, values: Sequence[Int8]) -> int:
        """The number of samples in these values: the length of axis 0 if the batch is free, else 1."""
        return max((len(v) for v in values if v.ndim), default=1) if self._batch_free else 1

    def _integers(self, name: ValueName, values: Mapping[ValueName, Int8]) -> Int8:
        return np.asarray(integers_of(self._q, name)) if name in self._q.graph.constants else values[name]

    def _weighted(self, node: Node, op: ops.Conv2d | ops.Linear, x: Int8) -> Int8:
        """A convolution or linear layer. Accumulators are exact: sums of small products in float64, far below 2^53."""
        q = self._q
        weights, x_params, y_params = q.weights[op.weight], q.activations[op.x], q.activations[node.name]
        centered = torch.from_numpy(x.astype(np.float64) - x_params.zero_point)
        integers = torch.from_numpy(weights.integers.astype(np.float64))
        acc = EXECUTORS[type(op)](op, self._samples([x]), centered, integers).numpy().astype(np.int64)
        column = (-1, 1, 1) if isinstance(op, ops.Conv2d) else (-1,)
        acc = acc + q.biases[node.name].reshape(column)
        requantize = self._rounding.linear if isinstance(op, ops.Linear) else self._rounding.convolution
        scaled = requantize(acc, x_params, weights.scales.reshape(column), y_params)
        return clamp(scaled + y_params.zero_point, y_params, op.activation)

    def _moved(self, node: Node, inputs: Sequence[Int8]) -> Int8:
        """An operator that only chooses or moves integers. Padding holds the zero point, in max pooling the lowest.

        Concatenations, minima and maxima first convert inputs to the parameters of the result where these differ.
        """
        params = self._q.activations[node.name]
        offset = params.zero_point if isinstance(node.op, ops.Pad) else 0
        op: Op = node.op
        if traits_of(op).joins_parameters:
            given = [self._q.activations[i] for i in node.inputs]
            inputs = [self._converted(x, p, params) for x, p in zip(inputs, given, strict=True)]
        if isinstance(op, ops.Pad) and op.value:
            op = ops.Pad(x=op.x, pads=op.pads, value=float(params.quantize(np.array(op.value))) - offset)
        tensors = [torch.from_numpy(np.asarray(x.astype(np.float64) - offset)) for x in inputs]
        result: Int8 = (EXECUTORS[type(op)](op, self._samples(inputs), *tensors).numpy() + offset).astype(np.int8)
        return result

    def _converted(self, x: Int8, given: QParams, wanted: QParams) -> Int8:
        """The integers of the same real values under other parameters. Files express that as a product with 1."""
        if given == wanted:
            return x
        if not self._fixed_point:
            steps = (x.astype(np.int64) - given.zero_point).astype(np.float32) * (given.scale / wanted.scale)
            return clamp(np.rint(steps) + wanted.zero_point, wanted, NONE)
        number = self._rounding.products
        multiplier = fixed_point(number(given.scale) / number(wanted.scale))
        scaled = multiplied(x.astype(np.int64) - given.zero_point, *multiplier)
        return clamp(scaled + wanted.zero_point, wanted, NONE)

    def _clamped(self, node: Node, op: ops.Relu | ops.Clamp, x: Int8) -> Int8:
        """A ReLU or clamp: convert to the result's parameters, then clamp to the bounds as integers."""
        params = self._q.activations[node.name]
        ends = (0.0, math.inf) if isinstance(op, ops.Relu) else (op.low, op.high)
        low, high = (int(params.quantize(np.array(end))) for end in ends)
        given = self._q.activations[op.x]
        clamped: Int8 = np.clip(self._converted(x, given, params), low, high)
        return clamped

    def _sum(self, node: Node, op: ops.Add | ops.Sub, values: Mapping[ValueName, Int8]) -> Int8:
        """An addition or a subtraction."""
        activations = self._q.activations
        x, y, params = activations[op.x], activations[op.y], activations[node.name]
        a, b = (self._integers(i, values).astype(np.int64) - p.zero_point for i, p in ((op.x, x), (op.y, y)))
        sums = self._rounding.sums if isinstance(op, ops.Add) else self._rounding.differences
        scaled = sums(a, b, x, y, params)
        return clamp(scaled + params.zero_point, params, op.activation)

    def _curved(self, node: Node, op: ops.HardSwish | ops.LeakyRelu, x: Int8) -> Int8:
        """Hard swish or leaky ReLU, by TFLite's or XNNPACK's kernels."""
        given, params = self._q.activations[op.x], self._q.activations[node.name]
        centered = x.astype(np.int64) - given.zero_point
        if isinstance(op, ops.HardSwish):
            curved = hard_swish(centered, given, params)
        else:
            leaky = leaky_relu_of_31_bits if self._rounding.leaky == REFERENCE_BITS else leaky_relu_of_8_bits
            curved = leaky(op.slope, centered, given, params)
        return clamp(curved + params.zero_point, params, NONE)

    def _matrix_product(self, node: Node, op: ops.MatMul, values: Mapping[ValueName, Int8]) -> Int8:
        """BATCH_MATMUL: exact accumulators, a 31-bit multiplier, rounded twice."""
        x, y, params = self._q.activations[op.x], self._q.activations[op.y], self._q.activations[node.name]
        a, b = (self._integers(i, values).astype(np.float64) for i in (op.x, op.y))
        acc = np.matmul(a - x.zero_point, b - y.zero_point).astype(np.int64)
        scaled = multiplied(acc, *fixed_point(float(x.scale * y.scale) / float(params.scale)))
        return clamp(scaled + params.zero_point, params, NONE)

    def _product(self, node: Node, op: ops.Mul, values: Mapping[ValueName, Int8]) -> Int8:
        """A product of integers, times one multiplier."""
        x, y, params = self._q.activations[op.x], self._q.activations[op.y], self._q.activations[node.name]
        a, b = (self._integers(i, values).astype(np.int64) for i in (op.x, op.y))
        acc = (a - x.zero_point) * (b - y.zero_point)
        if self._fixed_point:
            number = self._rounding.products
            scaled = multiplied(acc, *fixed_point(number(x.scale) * number(y.scale) / number(params.scale)))
        else:
            scaled = half_even_fp32(acc, x, np.asarray(y.scale), params)
        return clamp(scaled + params.zero_point, params, op.activation)

    def _average(self, op: ops.AvgPool2d, x: Int8) -> Int8:
        """AVERAGE_POOL_2D: the mean of integers that include their zero point, rounded half away from zero."""
        average = EXECUTORS[type(op)](op, self._samples([x]), torch.from_numpy(x.astype(np.float64))).numpy()
        rounded: Int8 = (np.sign(average) * np.floor(np.abs(average) + 0.5)).astype(np.int8)
        return rounded

    def _mean(self, node: Node, op: ops.Mean, x: Int8) -> Int8:
        """A mean: one accumulator for each, its multiplier divided by the number of elements."""
        given, params = self._q.activations[op.x], self._q.activations[node.name]
        acc = (x.astype(np.int64) - given.zero_point).sum(axis=op.axes, keepdims=op.keepdim)
        count = math.prod(x.shape[a] for a in op.axes)
        if not self._fixed_point:
            multiplier = given.scale / (params.scale * np.float32(count))
            zero = params.zero_point
            before = np.float32(zero if self._rounding.zero_first else 0)
            return clamp(np.rint(acc.astype(np.float32) * multiplier + before) + (zero - before), params, NONE)
        quantized, exponent = fixed_point(float(given.scale) / float(params.scale))
        shift = min(count.bit_length() - 1, 32, 31 + int(exponent))
        scaled = multiplied(acc, (quantized << shift) // count, exponent - shift)
        return clamp(scaled + params.zero_point, params, NONE)

    def _real(self, node: Node, values: Mapping[ValueName, Int8]) -> Int8:
        """Any other operator: real arithmetic in float64 on dequantized values, rounded once."""
        q, params = self._q, self._q.activations[node.name]
        reals = []
        for name in node.inputs:
            x, p = self._integers(name, values), q.activations[name]
            reals.append(torch.from_numpy(np.asarray((x.astype(np.float64) - p.zero_point) * float(p.scale))))
        samples = self._samples([values[i] for i in node.inputs if i in values])
        result = EXECUTORS[type(node.op)](node.op, samples, *reals).numpy()
        rounded = np.rint(result / float(params.scale)) + params.zero_point
        return clamp(rounded, params, getattr(node.op, "activation", NONE))


def clamp(integers: npt.NDArray[Any], params: QParams, activation: Activation) -> Int8:
    """Saturate to int8 and to the activation's bounds as TFLite rounds them (``CalculateActivationRangeQuantized``)."""
    low, high = bounds(params, activation)
    clamped: Int8 = np.clip(integers, low, high).astype(np.int8)
    return clamped
