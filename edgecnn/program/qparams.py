"""Scales and zero points, and the arithmetic that they define.

A real value ``r`` is held as an integer ``q`` with ``r = scale * (q - zero_point)`` (the TFLite quantization
specification, https://ai.google.dev/edge/litert/models/quantization_spec). Scales are float32, because files hold and
runtimes use float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecnn.errors import QuantizationError
from edgecnn.graph.ops import Activation

INT8_MIN, INT8_MAX = -128, 127
"""Range of int8."""
SMALLEST_SCALE = np.float32(np.finfo(np.float32).tiny)
"""The smallest normal float32. Runtimes flush smaller scales to zero."""

_FURTHEST = 4096
"""How many of the following float32 numbers are tried as a scale. They lie within 0.05 % of it."""

Int8 = npt.NDArray[np.int8]
Float = npt.NDArray[np.float32]
Range = tuple[float, float]
"""Lowest and highest real value."""


@dataclass(frozen=True, slots=True)
class QParams:
    """The parameters of an int8 tensor: one scale and one zero point.

    Raises:
        QuantizationError: if the scale is not positive and normal, or the zero point is no int8.
    """

    scale: np.float32
    zero_point: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale >= SMALLEST_SCALE):
            raise QuantizationError(
                f"a scale of {self.scale} cannot be used", why="it is not a normal positive float32"
            )
        if not INT8_MIN <= self.zero_point <= INT8_MAX:
            raise QuantizationError(f"a zero point of {self.zero_point} is no int8")

    @property
    def low(self) -> float:
        """The real value of the lowest integer."""
        return float(self.scale) * (INT8_MIN - self.zero_point)

    @property
    def high(self) -> float:
        """The real value of the highest integer."""
        return float(self.scale) * (INT8_MAX - self.zero_point)

    def quantize(self, real: npt.NDArray[np.floating]) -> Int8:
        """The nearest integers, half to even, clamped: real times the scale's reciprocal, all in float32.

        XNNPACK computes that, and the ONNX files make ONNX Runtime compute it. A division gives another integer at some
        ties, for about 2 in a million random values.
        """
        with np.errstate(over="ignore"):  # infinities are clamped
            steps = np.asarray(real, np.float32) * (np.float32(1) / self.scale)
            scaled = np.rint(steps) + np.float32(self.zero_point)
        integers: Int8 = np.asarray(np.clip(scaled, INT8_MIN, INT8_MAX), np.int8)
        return integers

    def dequantize(self, integers: npt.NDArray[np.integer]) -> Float:
        """The real values in float32."""
        real: Float = (integers.astype(np.int32) - self.zero_point).astype(np.float32) * self.scale
        return real


def from_range(low: float, high: float) -> QParams:
    """Parameters that cover a range, widened to hold 0 exactly.

    An empty range (a constant 0) gets the scale 1/255.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return QParams(np.float32(1 / 255), 0)
    scale = np.float32((high - low) / (INT8_MAX - INT8_MIN))
    zero_point = int(np.clip(np.rint(INT8_MIN - low / float(scale)), INT8_MIN, INT8_MAX))
    return QParams(scale, zero_point)


def from_magnitude(magnitude: float) -> QParams:
    """Parameters with zero point 0 that cover -magnitude to magnitude; for 0, those of :func:`from_range`."""
    return QParams(np.float32(magnitude / INT8_MAX), 0) if magnitude else from_range(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class QWeights:
    """Integer weights, symmetric, one scale per output channel (axis 0): ``real = integers * scales``."""

    integers: Int8
    scales: Float

    def dequantize(self) -> Float:
        """The real values in float32."""
        return self.integers.astype(np.float32) * self.scales.reshape(-1, *(1,) * (self.integers.ndim - 1))


def division_equals_reciprocal(scale: np.float32) -> bool:
    """Whether dividing by a scale and multiplying by its reciprocal give the same integers for all float32 numbers.

    Some runtimes divide, others multiply. Both round to float32 and then to integers, so results can differ only next
    to a tie, by less than 2^-22 of the number; every float32 number there is tried.
    """
    ties = (np.arange(INT8_MIN - INT8_MAX, INT8_MAX - INT8_MIN + 1) - 0.5) * float(scale)
    near = (ties.astype(np.float32).view(np.int32)[:, None] + np.arange(-6, 7, dtype=np.int32)).view(np.float32)
    with np.errstate(over="ignore"):
        return bool((np.rint(near / scale) == np.rint(near * (np.float32(1) / scale))).all())


def with_exact_reciprocal(params: QParams) -> QParams:
    """The parameters with the next larger scale for which :func:`division_equals_reciprocal` holds.

    About one in thirty float32 numbers is such a scale.
    """
    scale = params.scale
    for _ in range(_FURTHEST):
        if division_equals_reciprocal(scale):
            return QParams(scale, params.zero_point)
        scale = np.nextafter(scale, np.float32(np.inf))
    return params


def bounds(params: QParams, activation: Activation) -> tuple[int, int]:
    """Lowest and highest integer after an activation."""
    limits = []
    for bound, end in zip(activation.bounds, (INT8_MIN, INT8_MAX), strict=True):
        limits.append(end if not np.isfinite(bound) else params.zero_point + int(np.rint(bound / float(params.scale))))
    return max(limits[0], INT8_MIN), min(limits[1], INT8_MAX)
