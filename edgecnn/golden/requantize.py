"""Rescaling accumulators to int8: the arithmetic of the runtimes' kernels, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgecnn.program.qparams import QParams
from edgecnn.types import IntArray

SUM_BITS = 20
"""Fraction bits in sums of int8 (tensorflow/lite/kernels/add.cc, ``left_shift``; XNNPACK's vadd)."""
Sum = Callable[[IntArray, IntArray, QParams, QParams, QParams], npt.NDArray[np.float64]]
_Float32 = np.float32 | npt.NDArray[np.float32]
UINT8_OFFSET = 128
"""ONNX files hold uint8: an int8 plus this."""
Requantize = Callable[[IntArray, QParams, npt.NDArray[np.float32], QParams], npt.NDArray[np.float64]]


def half_even_fp32(
    acc: IntArray, x: QParams, weight_scales: npt.NDArray[np.float32], y: QParams
) -> npt.NDArray[np.float64]:
    """``rint(float32(acc) * (x.scale * weight_scale / y.scale))``, all in float32. Channels are axis 1 or the last."""
    multiplier = (x.scale * weight_scales) / y.scale
    return np.rint(acc.astype(np.float32) * multiplier).astype(np.float64)


def gemmlowp(acc: IntArray, x: QParams, weight_scales: npt.NDArray[np.float32], y: QParams) -> npt.NDArray[np.float64]:
    """A rounding doubling high multiplication by a Q31 multiplier, then a rounding right shift."""
    return multiplied(acc, *fixed_point(float(x.scale) * weight_scales.astype(np.float64) / float(y.scale)))


def fixed_point(real: npt.NDArray[np.float64] | np.float32 | float) -> tuple[IntArray, IntArray]:
    """A real multiplier as 31 bits and an exponent (``QuantizeMultiplier``)."""
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    quantized = np.rint(fraction * (1 << 31)).astype(np.int64)
    full = quantized == 1 << 31
    return np.where(full, 1 << 30, quantized), (exponent + full).astype(np.int64)


def multiplied(acc: IntArray, quantized: IntArray, exponent: IntArray) -> npt.NDArray[np.float64]:
    """``MultiplyByQuantizedMultiplier``, rounding twice."""
    left, right = np.maximum(exponent, 0).astype(np.int64), np.maximum(-exponent, 0).astype(np.int64)
    product = (acc << left) * quantized
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = _divide(product + nudge)
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return ((high >> right) + ((high & mask) > threshold)).astype(np.float64)


def single_rounding(
    acc: IntArray, x: QParams, weight_scales: npt.NDArray[np.float32], y: QParams
) -> npt.NDArray[np.float64]:
    """A Q31 multiplication as in :func:`gemmlowp`, but rounded once, half up."""
    quantized, exponent = fixed_point(float(x.scale) * weight_scales.astype(np.float64) / float(y.scale))
    shift = 31 - exponent
    return ((acc * quantized + (np.int64(1) << (shift - 1))) >> shift).astype(np.float64)


def sum_in_float(a: IntArray, b: IntArray, x: QParams, y: QParams, out: QParams) -> npt.NDArray[np.float64]:
    """ONNX Runtime's addition of uint8 (MLAS, qladd): two fused multiply-adds in float32.

    All constant terms, zero points included, are combined to one number.
    """
    zeros = [np.float32(p.zero_point + UINT8_OFFSET) for p in (x, y, out)]
    ratios = x.scale / out.scale, y.scale / out.scale
    fixed = zeros[2] - _fused(ratios[0], zeros[0], ratios[1] * zeros[1])
    first, second = ((v + p.zero_point + UINT8_OFFSET).astype(np.float32) for v, p in ((a, x), (b, y)))
    total = _fused(first, ratios[0], _fused(second, ratios[1], fixed))
    return np.rint(total).astype(np.float64) - (out.zero_point + UINT8_OFFSET)


def difference_in_float(a: IntArray, b: IntArray, x: QParams, y: QParams, out: QParams) -> npt.NDArray[np.float64]:
    """ONNX Runtime's subtraction. It has no integer kernel: it subtracts real values in float32 and rounds."""
    reals = [v.astype(np.float32) * p.scale for v, p in ((a, x), (b, y))]
    return np.rint((reals[0] - reals[1]) / out.scale).astype(np.float64)


def _fused(a: _Float32, b: _Float32, c: _Float32) -> _Float32:
    """``a * b + c`` in float32, rounded once: the product is exact in float64."""
    total: _Float32 = (np.asarray(a, np.float64) * np.asarray(b, np.float64) + np.asarray(c, np.float64)).astype(
        np.float32
    )
    return total


def negated(sums: Sum) -> Sum:
    """A subtraction by a sum: the first value plus the negated second one."""

    def difference(a: IntArray, b: IntArray, x: QParams, y: QParams, out: QParams) -> npt.NDArray[np.float64]:
        return sums(a, -b, x, y, out)

    return difference


def sum_of_31_bits(a: IntArray, b: IntArray, x: QParams, y: QParams, out: QParams) -> npt.NDArray[np.float64]:
    """The reference kernel's addition: both at twice the larger scale, with SUM_BITS fraction bits, then rescaled."""
    twice = 2 * max(float(x.scale), float(y.scale))
    terms = [multiplied(v << SUM_BITS, *fixed_point(float(p.scale) / twice)) for v, p in ((a, x), (b, y))]
    return multiplied(
        (terms[0] + terms[1]).astype(np.int64), *fixed_point(twice / ((1 << SUM_BITS) * float(out.scale)))
    )


def sum_of_21_bits(a: IntArray, b: IntArray, x: QParams, y: QParams, out: QParams) -> npt.NDArray[np.float64]:
    """XNNPACK's addition: the larger multiplier has 21 bits, the other as many fraction bits; rounded half up."""
    ratios = [float(p.scale / out.scale) for p in (x, y)]
    shift = SUM_BITS + 1 - math.frexp(max(ratios))[1]
    first, second = (round(math.ldexp(r, shift)) for r in ratios)
    total = a * first + b * second + (1 << (shift - 1))
    return (total >> shift).astype(np.float64)


def _divide(values: IntArray) -> IntArray:
    """Division by 2^31 that truncates toward zero, as in C."""
    quotient: IntArray = np.where(values >= 0, values >> 31, -((-values) >> 31))
    return quotient
