"""How far one array strays from another, gathered batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ROUNDING = 1e-6
"""Variation that float32's rounding alone can make, as a share of the magnitude."""


@dataclass(slots=True)
class Difference:
    """Running comparison of an output with its reference, both (samples, ...). Memory does not grow with samples.

    Attributes:
        max_abs: Largest absolute difference so far; NaN where either side has a NaN, or both an infinity.
        low: Smallest value of the reference.
        high: Largest value of the reference.
        nans: Values of the output that are NaN or infinite.
        samples: Samples seen.
        agreed: Samples whose largest score has the same index in both.
    """

    max_abs: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    nans: int = 0
    samples: int = 0
    agreed: int = 0

    def add(self, output: Array, reference: Array) -> None:
        """Take in a batch.

        Raises:
            ValueError: if the shapes differ.
        """
        if output.shape != reference.shape:
            raise ValueError(f"shape {output.shape} is not the reference's {reference.shape}")
        if not output.size:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            worst = np.abs(output.astype(np.float64) - reference).max()
        self.max_abs = float(np.maximum(self.max_abs, worst))  # np.maximum keeps a NaN, max() may not
        self.low = float(np.minimum(self.low, reference.min()))
        self.high = float(np.maximum(self.high, reference.max()))
        self.nans += int((~np.isfinite(output)).sum())
        self.samples += len(output)
        if output.ndim == 2:
            self.agreed += int((output.argmax(1) == reference.argmax(1)).sum())

    @property
    def relative(self) -> float:
        """Largest absolute difference as a share of the reference's range; 0 for no difference at all.

        A reference that never varies, or by no more than float32 rounds, has no range; its magnitude takes that place,
        and where that is 0 too, 1.
        """
        if self.max_abs == 0:
            return 0.0
        magnitude = max(abs(self.low), abs(self.high))
        extent = self.high - self.low
        return self.max_abs / ((magnitude or 1.0) if extent <= ROUNDING * magnitude else extent)


def relative_error(output: Array, reference: Array) -> float:
    """:attr:`Difference.relative` of two arrays; infinite where their shapes differ."""
    difference = Difference()
    try:
        difference.add(output, reference)
    except ValueError:
        return np.inf
    return difference.relative
