"""How an accumulator becomes an int8 again: the arithmetic of the runtimes' kernels, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgecnn.graph.qparams import QParams

Integers = npt.NDArray[np.int64]
SUM_BITS = 20
"""Bits below the point in sums of int8 (tensorflow/lite/kernels/add.cc, ``left_shift``; XNNPACK's vadd)."""
Requantize = Callable[[Integers, QParams, npt.NDArray[np.float32], QParams], npt.NDArray[np.float64]]


def half_even_fp32(
    acc: Integers, x: QParams, weight_scales: npt.NDArray[np.float32], y: QParams
) -> npt.NDArray[np.float64]:
    """``rint(float32(acc) * (x.scale * weight_scale / y.scale))``, all in float32. Channels are axis 1 or the last."""
    multiplier = (x.scale * weight_scales) / y.scale
    return np.rint(acc.astype(np.float32) * multiplier).astype(np.float64)


def gemmlowp(acc: Integers, x: QParams, weight_scales: npt.NDArray[np.float32], y: QParams) -> npt.NDArray[np.float64]:
    """A rounding doubling high multiplication by a Q31 multiplier, then a rounding right shift."""
    return multiplied(acc, *fixed_point(float(x.scale) * weight_scales.astype(np.float64) / float(y.scale)))


def fixed_point(real: npt.NDArray[np.float64] | np.float32 | float) -> tuple[Integers, Integers]:
    """A real multiplier as 31 bits and an exponent (``QuantizeMultiplier``)."""
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    quantized = np.rint(fraction * (1 << 31)).astype(np.int64)
    full = quantized == 1 << 31
    return np.where(full, 1 << 30, quantized), (exponent + full).astype(np.int64)


def multiplied(acc: Integers, quantized: Integers, exponent: Integers) -> npt.NDArray[np.float64]:
    """``MultiplyByQuantizedMultiplier``, rounding twice."""
    left, right = np.maximum(exponent, 0).astype(np.int64), np.maximum(-exponent, 0).astype(np.int64)
    product = (acc << left) * quantized
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = _divide(product + nudge)
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return ((high >> right) + ((high & mask) > threshold)).astype(np.float64)


def single_rounding(
    acc: Integers, x: QParams, weight_scales: npt.NDArray[np.float32], y: QParams
) -> npt.NDArray[np.float64]:
    """The same 31-bit multiplier, rounded once, half up."""
    quantized, exponent = fixed_point(float(x.scale) * weight_scales.astype(np.float64) / float(y.scale))
    shift = 31 - exponent
    return ((acc * quantized + (np.int64(1) << (shift - 1))) >> shift).astype(np.float64)


def sum_of_31_bits(a: Integers, b: Integers, x: QParams, y: QParams, out: QParams) -> npt.NDArray[np.float64]:
    """The reference kernel's addition: both at twice the larger scale, with SUM_BITS below the point, then rescaled."""
    twice = 2 * max(float(x.scale), float(y.scale))
    terms = [multiplied(v << SUM_BITS, *fixed_point(float(p.scale) / twice)) for v, p in ((a, x), (b, y))]
    return multiplied(
        (terms[0] + terms[1]).astype(np.int64), *fixed_point(twice / ((1 << SUM_BITS) * float(out.scale)))
    )


def sum_of_21_bits(a: Integers, b: Integers, x: QParams, y: QParams, out: QParams) -> npt.NDArray[np.float64]:
    """XNNPACK's addition: the larger multiplier has 21 bits, the other as many below the point; rounded half up."""
    ratios = [float(p.scale / out.scale) for p in (x, y)]
    shift = SUM_BITS + 1 - math.frexp(max(ratios))[1]
    first, second = (round(math.ldexp(r, shift)) for r in ratios)
    total = a * first + b * second + (1 << (shift - 1))
    return (total >> shift).astype(np.float64)


def _divide(values: Integers) -> Integers:
    """Division by 2^31 that truncates toward zero, as C's does."""
    quotient: Integers = np.where(values >= 0, values >> 31, -((-values) >> 31))
    return quotient
