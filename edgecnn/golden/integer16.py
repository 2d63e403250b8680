"""The int16x8 program executed in integers, like TFLite's own kernels: XNNPACK does not run int16x8.

Accumulators of 64 bits are rescaled to int16 by one of two rules. Both round once, half up:

- ``rescale15``: a multiplier of 15 bits (``MultiplyByQuantizedMultiplier`` for int64 in
  tensorflow/lite/kernels/internal/common.cc). Convolutions everywhere; linear layers in tflite-runtime 2.14.
- ``rescale31``: a multiplier of 31 bits. Linear layers in LiteRT.

Average pooling and operators that only move integers are exact for all kernels, additions and subtractions for the
reference kernels (LiteRT's optimized ones on x86 differ by 1 in about 3 of a million values). All other operators are
computed in real arithmetic and rounded once; kernels come within 3 steps of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch

from edgecnn.golden.float import EXECUTORS
from edgecnn.graph import ops
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Activation, ValueName
from edgecnn.program.quantized16 import Int16, QuantizedGraph16, multipliers
from edgecnn.types import IntArray

Rescale = Callable[[IntArray, npt.NDArray[np.float64]], IntArray]


def execute_int16(q: QuantizedGraph16, inputs: Sequence[Int16], *, linear: str = "rescale31") -> dict[ValueName, Int16]:
    """Every value of a quantized graph, by name.

    Args:
        q: The quantized graph.
        inputs: One int16 array per graph input, (samples, ...).
        linear: The rule for linear layers: ``rescale31`` (LiteRT) or ``rescale15`` (tflite-runtime 2.14).
    """
    values: dict[ValueName, Int16] = {i.name: a for i, a in zip(q.graph.inputs, inputs, strict=True)}
    for node in q.graph.nodes:
        values[node.name] = execute_int16_node(q, node, values, linear=linear)
    return values


def execute_int16_node(
    q: QuantizedGraph16, node: Node, values: Mapping[ValueName, Int16], *, linear: str = "rescale31"
) -> Int16:
    """One operator alone, on given integers."""
    match node.op:
        case ops.Conv2d() as op:
            return _weighted(q, node, op, values[op.x], rescale15)
        case ops.Linear() as op:
            return _weighted(q, node, op, values[op.x], LINEAR[linear])
        case ops.Pad() as op:
            value = float(q.activations[node.name].quantize(np.array(op.value)))
            return _moved(ops.Pad(x=op.x, pads=op.pads, value=value), [values[op.x]])
        case ops.MaxPool2d() | ops.Reshape() | ops.Transpose() | ops.Slice() | ops.Concat() as op:
            return _moved(op, [values[i] for i in node.inputs])
        case ops.Add() | ops.Sub() as op:
            return _added(q, node, op, [_integers(q, i, values) for i in (op.x, op.y)])
        case _:
            return _real(q, node, values)


def rescale15(acc: IntArray, real: npt.NDArray[np.float64]) -> IntArray:
    """An accumulator times a real multiplier that has 15 bits."""
    fraction, exponent = _fixed_point(real)
    reduced = np.where(fraction < 0x7FFF0000, (fraction + (1 << 15)) >> 16, 0x7FFF)
    shift = 15 - exponent
    result: IntArray = (acc * reduced + (np.int64(1) << (shift - 1))) >> shift
    return result


def rescale31(acc: IntArray, real: npt.NDArray[np.float64]) -> IntArray:
    """An accumulator times a real multiplier that has 31 bits. The product, of up to 77 bits, is made in two parts."""
    fraction, exponent = _fixed_point(real)
    shift = 31 - exponent
    low = acc * (fraction & 0xFFFF) + (np.int64(1) << (shift - 1))
    result: IntArray = (acc * (fraction >> 16) + (low >> 16)) >> (shift - 16)
    return result


LINEAR: Mapping[str, Rescale] = MappingProxyType({"rescale31": rescale31, "rescale15": rescale15})


def _fixed_point(real: npt.NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    """31-bit fractions and exponents (``QuantizeMultiplier`` in tensorflow/lite/kernels/internal)."""
    fraction, exponent = np.frexp(real)
    fixed = np.floor(fraction * (1 << 31) + 0.5).astype(np.int64)
    exponent = np.where(fixed == 1 << 31, exponent + 1, exponent).astype(np.int64)
    fixed = np.where(fixed == 1 << 31, 1 << 30, fixed)
    return np.where(exponent < -31, 0, fixed), np.where(exponent < -31, 0, exponent)


def _weighted(q: QuantizedGraph16, node: Node, op: ops.Conv2d | ops.Linear, x: Int16, rescale: Rescale) -> Int16:
    """A convolution or linear layer. Accumulators are exact: sums of integer products in float64, below 2^46."""
    weights, y = q.weights[op.weight], q.activations[node.name]
    tensors = (torch.from_numpy(a.astype(np.float64)) for a in (x, weights.integers))
    acc = EXECUTORS[type(op)](op, len(x), *tensors).numpy().astype(np.int64)
    column = (-1, 1, 1) if isinstance(op, ops.Conv2d) else (-1,)
    real = multipliers(q.activations[op.x], weights, y)
    scaled = rescale(acc + q.biases[node.name].reshape(column), real.reshape(column))
    clamped: Int16 = np.clip(scaled, *y.bounds(op.activation)).astype(np.int16)
    return clamped


def _moved(op: ops.Op, inputs: Sequence[Int16]) -> Int16:
    tensors = [torch.from_numpy(x.astype(np.float64)) for x in inputs]
    result: Int16 = EXECUTORS[type(op)](op, len(inputs[0]), *tensors).numpy().astype(np.int16)
    return result


def _added(q: QuantizedGraph16, node: Node, op: ops.Add | ops.Sub, inputs: Sequence[Int16]) -> Int16:
    """A sum or difference: inputs rescaled to twice the larger scale with 15 fraction bits, added, rescaled again.

    ``AddElementwise`` in tensorflow/lite/kernels/internal/reference/add.h, with ``left_shift = 15``.
    """
    x, y = (float(q.activations[i].scale) for i in (op.x, op.y))
    out, twice = q.activations[node.name], 2 * max(x, y)
    shifted = [i.astype(np.int64) << 15 for i in inputs]
    a, b = (_rescale_twice(s, scale / twice) for s, scale in zip(shifted, (x, y), strict=True))
    total = a + b if isinstance(op, ops.Add) else a - b
    raw = _rescale_twice(total, twice / ((1 << 15) * float(out.scale)))
    clamped: Int16 = np.clip(raw, *out.bounds(op.activation)).astype(np.int16)
    return clamped


def _rescale_twice(values: IntArray, real: float) -> IntArray:
    """An int32 times a real multiplier below 1, rounded at 31 bits and again after the shift (gemmlowp's rule)."""
    fraction, exponent = (int(n) for n in _fixed_point(np.array(real)))
    product = values * fraction
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    right = -exponent
    mask = (1 << right) - 1
    result: IntArray = (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))
    return result


def _integers(q: QuantizedGraph16, name: ValueName, values: Mapping[ValueName, Int16]) -> Int16:
    constants = q.graph.constants
    return q.activations[name].quantize(constants[name]) if name in constants else values[name]


def _real(q: QuantizedGraph16, node: Node, values: Mapping[ValueName, Int16]) -> Int16:
    y = q.activations[node.name]
    reals = []
    for name in node.inputs:
        x = _integers(q, name, values).astype(np.float64) * float(q.activations[name].scale)
        reals.append(torch.from_numpy(np.asarray(x)))
    samples = next(len(values[i]) for i in node.inputs if i in values)
    result = EXECUTORS[type(node.op)](node.op, samples, *reals).numpy()
    bounds = y.bounds(getattr(node.op, "activation", Activation.NONE))
    steps = result / float(y.scale)
    rounded = _half_away(steps) if isinstance(node.op, ops.AvgPool2d) else np.rint(steps)
    clamped: Int16 = np.clip(rounded, *bounds).astype(np.int16)
    return clamped


def _half_away(steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quotients of integers rounded like C's ``round``; float64 may miss their exact halves by 1e-9."""
    away: npt.NDArray[np.float64] = np.copysign(np.floor(np.abs(steps) + (0.5 + 1e-9)), steps)
    return away
