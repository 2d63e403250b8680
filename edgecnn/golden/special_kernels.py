"""Kernels with special integer arithmetic, whose results are not those of real arithmetic rounded once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgecnn.golden.requantize import fixed_point, multiplied
from edgecnn.graph.ops import ResizeBilinear
from edgecnn.program.qparams import Int8, QParams
from edgecnn.types import IntArray

HIGH = np.int64((1 << 15) - 1)
"""Largest int16."""
LEAKY_BITS = 8
"""Fraction bits of XNNPACK's leaky ReLU (qs8-vlrelu)."""
LEAKY_RATIOS = (2.0**-8, 2.0**7)
"""Ratios of two scales that the delegate gives to XNNPACK's leaky ReLU; TFLite's kernel runs all others."""

Resize = Callable[[ResizeBilinear, Int8], Int8]


def hard_swish(x: IntArray, given: QParams, wanted: QParams) -> IntArray:
    """HARD_SWISH in int16 arithmetic, as in all TFLite runtimes (reference/hard_swish.h; XNNPACK has none).

    Args:
        x: Integers minus their zero point.
        given: The parameters of x.
        wanted: The parameters of the result, from which the zero point is also subtracted.
    """
    fine = given.scale * np.float32(1 / 128)
    scale, scale_exponent = _multiplier_of_16_bits(fine / wanted.scale)
    ramp, ramp_exponent = _multiplier_of_16_bits(fine / np.float32(3 / 32768))
    shifted = x << 7
    value = _rounded_high_product(shifted, scale)
    if ramp_exponent > 0:
        shifted = _saturated(shifted << (ramp_exponent - 1))
    gate = _rounded_high_product(shifted, ramp)
    if ramp_exponent > 0:
        gate = _saturated(gate << 1)
    gate = (_rounded_shift(gate, max(-ramp_exponent, 0)) + (1 << 15)) >> 1
    return _rounded_shift(_truncated(gate * value, 15), -scale_exponent)


def leaky_relu_of_31_bits(slope: float, x: IntArray, given: QParams, wanted: QParams) -> IntArray:
    """TFLite's LEAKY_RELU: 31-bit multipliers, rounded twice; that of negative values includes the slope."""
    ratios = (given.scale / wanted.scale, given.scale * np.float32(slope) / wanted.scale)
    up, down = (multiplied(x, *fixed_point(ratio)) for ratio in ratios)
    return np.where(x >= 0, up, down).astype(np.int64)


def leaky_relu_of_8_bits(slope: float, x: IntArray, given: QParams, wanted: QParams) -> IntArray:
    """XNNPACK's leaky ReLU: multipliers with 8 fraction bits, rounded half up. TFLite's for ratios it does not take."""
    ratio = given.scale / wanted.scale
    ratios = (ratio, ratio * np.float32(slope))
    if not all(LEAKY_RATIOS[0] <= abs(r) <= LEAKY_RATIOS[1] for r in ratios):
        return leaky_relu_of_31_bits(slope, x, given, wanted)
    up, down = (np.int64(np.rint(r * np.float32(1 << LEAKY_BITS))) for r in ratios)
    return (x * np.where(x > 0, up, down) + (1 << (LEAKY_BITS - 1))) >> LEAKY_BITS


def resize_of_10_bits(op: ResizeBilinear, x: Int8) -> Int8:
    """TFLite's RESIZE_BILINEAR (reference/resize_bilinear.h, ``ResizeBilinearInteger``).

    Positions and weights have 10 fraction bits.
    """
    one = 1 << 10

    def line(size: int, to: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        ends = op.align_corners and to > 1
        scale = (one * (size - ends) + (to - ends) // 2) // (to - ends)
        at = np.arange(to, dtype=np.int64) * scale
        if not op.align_corners:
            at += scale // 2 - one // 2
        first = np.clip(_truncated(at, 10), 0, size - 1)
        second = np.minimum(_truncated(at + one - 1, 10), size - 1)
        return first, second, one - (at - one * first), at - one * first

    total = _blended(x.astype(np.int64), *(line(s, t) for s, t in zip(x.shape[2:], op.to, strict=True)))
    half = np.where(total > 0, 1 << 19, -(1 << 19))
    return _truncated(total + half, 20).astype(np.int8)


def resize_of_11_bits(op: ResizeBilinear, x: Int8) -> Int8:
    """XNNPACK's bilinear resizing: float32 positions, weights with 11 fraction bits, rounded half up (s8-ibilinear)."""
    one = 1 << 11

    def line(size: int, to: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        ends = op.align_corners and to > 1
        scale = np.float32(size - ends) / np.float32(to - ends)
        at = np.arange(to, dtype=np.float32) * scale
        if not op.align_corners:
            at = np.clip(at + (np.float32(0.5) * scale - np.float32(0.5)), np.float32(0), np.float32(size - 1))
        first = at.astype(np.int64)
        share = np.rint((at - first.astype(np.float32)) * np.float32(one)).astype(np.int64)
        return first, np.minimum(first + 1, size - 1), one - share, share

    total = _blended(x.astype(np.int64), *(line(s, t) for s, t in zip(x.shape[2:], op.to, strict=True)))
    return ((total + (1 << 21)) >> 22).astype(np.int8)


def _blended(
    x: IntArray, rows: tuple[IntArray, IntArray, IntArray, IntArray], columns: tuple[IntArray, ...]
) -> IntArray:
    """The blend of two rows and two columns for each pixel, by integer weights."""
    first, second, of_first, of_second = rows
    x = x[:, :, first] * of_first[:, None] + x[:, :, second] * of_second[:, None]
    first, second, of_first, of_second = columns
    blended: IntArray = x[..., first] * of_first + x[..., second] * of_second
    return blended


def _multiplier_of_16_bits(real: np.float32) -> tuple[IntArray, int]:
    """A 16-bit multiplier: ``QuantizeMultiplier``, then ``DownScaleInt32ToInt16Multiplier``."""
    wide, exponent = fixed_point(real)
    return np.minimum((wide + (1 << 15)) >> 16, HIGH), int(exponent)


def _rounded_high_product(a: IntArray, b: IntArray) -> IntArray:
    """The high half of a product: ``SaturatingRoundingDoublingHighMul`` of int16."""
    product = a * b
    return np.minimum(_truncated(product + np.where(product >= 0, 1 << 14, 1 - (1 << 14)), 15), HIGH)


def _rounded_shift(values: IntArray, bits: int) -> IntArray:
    """Division by a power of two, rounded half away from zero: ``RoundingDivideByPOT``."""
    mask = (1 << bits) - 1
    return (values >> bits) + ((values & mask) > (mask >> 1) + (values < 0))


def _truncated(values: npt.NDArray[np.int64], bits: int) -> IntArray:
    """Division by a power of two that truncates toward zero, as in C."""
    return np.where(values >= 0, values >> bits, -((-values) >> bits))


def _saturated(values: IntArray) -> IntArray:
    return np.clip(values, -HIGH - 1, HIGH)
