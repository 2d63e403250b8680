"""How far one array strays from another, gathered batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SWAP = 2
"""Steps by which one integer score may lead another and still lose to it where each may be off by one."""
ROUNDING = 1e-6
"""Variation that float32's rounding alone can make, as a share of the magnitude."""


@dataclass(slots=True)
class Difference:
    """Running comparison of an output with its reference, both (samples, ...). Memory does not grow with samples.

    Attributes:
        max_abs: Largest absolute difference so far; NaN where either side has a NaN, or both an infinity.
        sum_abs: Sum of the absolute differences.
        elements: How many were compared.
        low: Smallest value of the reference.
        high: Largest value of the reference.
        nans: Values of the output that are NaN or infinite.
        samples: Samples seen.
        agreed: Samples whose largest score has the same index in both.
    """

    max_abs: float = 0.0
    sum_abs: float = 0.0
    elements: int = 0
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
            apart = np.abs(output.astype(np.float64) - reference)
        self.max_abs = float(np.maximum(self.max_abs, apart.max()))  # np.maximum keeps a NaN, max() may not
        self.sum_abs += float(apart.sum())
        self.elements += output.size
        self.low = float(np.minimum(self.low, reference.min()))
        self.high = float(np.maximum(self.high, reference.max()))
        self.nans += int((~np.isfinite(output)).sum())
        self.samples += len(output)
        if output.ndim == 2:
            self.agreed += int((output.argmax(1) == reference.argmax(1)).sum())

    @property
    def mean_abs(self) -> float:
        """Mean absolute difference."""
        return self.sum_abs / self.elements if self.elements else 0.0

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


@dataclass(slots=True)
class Measured:
    """What was seen of one output of an artifact.

    Attributes:
        difference: From the float reference.
        integer: From the integer reference, in LSB; None without one.
        own: From the float reference of the artifact's own precision, rounded weights and all; None without one.
        flips: Samples whose best class the integer reference puts more than ``SWAP`` steps below its own.
        scores: Whether the output is a row of scores per sample.
        labelled: Samples with a label.
        right: Samples with a label that the artifact got right.
        reference_right: Samples with a label that the reference got right.
    """

    difference: Difference = field(default_factory=Difference)
    integer: Difference | None = None
    own: Difference | None = None
    flips: int = 0
    scores: bool = False
    labelled: int = 0
    right: int = 0
    reference_right: int = 0

    def add_labels(self, output: Array, reference: Array, labels: Array) -> None:
        """Count right answers of a batch of scores."""
        self.labelled += len(labels)
        self.right += int((output.argmax(1) == labels).sum())
        self.reference_right += int((reference.argmax(1) == labels).sum())

    def add_integers(self, output: Array, reference: Array) -> None:
        """Compare integers of a batch with the integer reference's."""
        if self.integer is None:
            self.integer = Difference()
        self.integer.add(output, reference)
        if self.scores:
            given = np.take_along_axis(reference, output.argmax(1)[:, None], axis=1)[:, 0]
            self.flips += int((given < reference.max(1).astype(np.int64) - SWAP).sum())

    def add_own(self, output: Array, reference: Array) -> None:
        """Compare a batch with the float reference of the artifact's own precision."""
        if self.own is None:
            self.own = Difference()
        self.own.add(output, reference)

    @property
    def agreement(self) -> float | None:
        """Share of samples with the reference's best class; None where the output is no row of scores."""
        return self.difference.agreed / self.difference.samples if self.scores and self.difference.samples else None

    @property
    def accuracy(self) -> float | None:
        """Share of labelled samples that the artifact got right."""
        return self.right / self.labelled if self.labelled else None

    @property
    def reference_accuracy(self) -> float | None:
        """Share of labelled samples that the reference got right."""
        return self.reference_right / self.labelled if self.labelled else None


def relative_error(output: Array, reference: Array) -> float:
    """:attr:`Difference.relative` of two arrays; infinite where their shapes differ."""
    difference = Difference()
    try:
        difference.add(output, reference)
    except ValueError:
        return np.inf
    return difference.relative
