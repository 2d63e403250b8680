"""Differences between two arrays, accumulated batch by batch. Works on any arrays, without a bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edgecnn.types import Array

ROUNDING = 1e-6
"""Variation caused by float32 rounding alone, as a share of the magnitude."""
SHOWN = 5
"""Number of worst samples that are kept, and of best classes in top-5."""


@dataclass(slots=True)
class Difference:
    """Running comparison of an output with its reference, both (samples, ...). Memory does not grow with samples.

    Attributes:
        max_abs: Largest absolute difference so far; NaN where either side has a NaN, or both an infinity.
        sum_abs: Sum of the absolute differences.
        sum_squares: Sum of their squares.
        output_squares: Sum of the output's squares.
        reference_squares: Sum of the reference's squares.
        products: Sum of output times reference.
        elements: Number of compared elements.
        low: Smallest value of the reference.
        high: Largest value of the reference.
        nans: Values of the output that are NaN.
        infinities: Values of the output that are infinite.
        samples: Number of compared samples.
        agreed: Samples whose largest score has the same index in both.
        agreed5: Samples whose largest score in the reference is among the five largest of the output.
        classes: Scores per sample; 0 if the output is not a row of class scores.
        worst: The samples with the largest differences, as (largest absolute difference, index), worst first.
    """

    max_abs: float = 0.0
    sum_abs: float = 0.0
    sum_squares: float = 0.0
    output_squares: float = 0.0
    reference_squares: float = 0.0
    products: float = 0.0
    elements: int = 0
    low: float = np.inf
    high: float = -np.inf
    nans: int = 0
    infinities: int = 0
    samples: int = 0
    agreed: int = 0
    agreed5: int = 0
    classes: int = 0
    worst: list[tuple[float, int]] = field(default_factory=list)

    def add(self, output: Array, reference: Array) -> None:
        """Add a batch.

        Raises:
            ValueError: if the shapes differ.
        """
        if output.shape != reference.shape:
            raise ValueError(f"shape {output.shape} is not the reference's {reference.shape}")
        if not output.size:
            return
        if output.ndim == 2:
            self._add_ranks(output, reference)
        ours, theirs = (a.astype(np.float64).reshape(len(a), -1) for a in (output, reference))
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(ours - theirs)
            self.sum_abs += float(apart.sum())
            self.sum_squares += float(np.vdot(apart, apart))
            self.output_squares += float(np.vdot(ours, ours))
            self.reference_squares += float(np.vdot(theirs, theirs))
            self.products += float(np.vdot(ours, theirs))
        each = apart.max(1)
        self.max_abs = float(np.maximum(self.max_abs, each.max()))  # np.maximum keeps a NaN, max() may not
        self.elements += output.size
        self.low = float(np.minimum(self.low, theirs.min()))
        self.high = float(np.maximum(self.high, theirs.max()))
        finite = np.isfinite(ours)
        if not finite.all():
            self.nans += int(np.isnan(ours).sum())
            self.infinities += int(np.isinf(ours).sum())
        self._add_worst(each)
        self.samples += len(output)

    def _add_ranks(self, output: Array, reference: Array) -> None:
        self.classes = output.shape[1]
        best = reference.argmax(1)
        self.agreed += int((output.argmax(1) == best).sum())
        ahead = output > np.take_along_axis(output, best[:, None], axis=1)
        self.agreed5 += int((ahead.sum(1) < SHOWN).sum())

    def _add_worst(self, each: Array) -> None:
        large = np.where(np.isnan(each), np.inf, each)  # a NaN is worse than any number
        places = np.argsort(-large, kind="stable")[:SHOWN]
        new = [(float(large[i]), self.samples + int(i)) for i in places if large[i] > 0]
        self.worst = sorted([*self.worst, *new], key=lambda pair: (-pair[0], pair[1]))[:SHOWN]

    @property
    def mean_abs(self) -> float:
        """Mean absolute difference."""
        return self.sum_abs / self.elements if self.elements else 0.0

    @property
    def rmse(self) -> float:
        """Root of the mean squared difference."""
        return math.sqrt(self.sum_squares / self.elements) if self.elements else 0.0

    @property
    def scale(self) -> float:
        """The reference's range, from its smallest value to its largest.

        If the reference is constant, or varies by no more than float32 rounding, its magnitude is used instead, or 1 if
        that is 0.
        """
        if not self.elements:
            return 1.0
        magnitude = max(abs(self.low), abs(self.high))
        extent = self.high - self.low
        return (magnitude or 1.0) if extent <= ROUNDING * magnitude else extent

    @property
    def relative(self) -> float:
        """Largest absolute difference as a share of the reference's range; 0 for no difference at all."""
        return 0.0 if self.max_abs == 0 else self.max_abs / self.scale

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio in dB: energy of the reference over that of the difference; infinite if equal."""
        return _decibels(self.reference_squares, self.sum_squares)

    @property
    def psnr_db(self) -> float:
        """Peak signal-to-noise ratio: the square of the reference's range over the mean squared difference, in dB."""
        return _decibels(self.scale**2, self.sum_squares / self.elements if self.elements else 0.0)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between output and reference, all elements as one vector.

        It is 1 for two vectors of zeros, and 0 if exactly one of them is zero.
        """
        lengths = self.output_squares * self.reference_squares
        if lengths == 0:
            return 1.0 if self.output_squares == self.reference_squares else 0.0
        if self.sum_squares == 0:
            return 1.0
        return float(np.clip(self.products / math.sqrt(lengths), -1, 1))

    @property
    def top1_agreement(self) -> float | None:
        """Share of samples with the reference's best class; None if the output is not a row of class scores."""
        return self.agreed / self.samples if self.classes and self.samples else None

    @property
    def top5_agreement(self) -> float | None:
        """Share of samples with the reference's best class among the five best; None for five classes or fewer."""
        return self.agreed5 / self.samples if self.classes > SHOWN and self.samples else None


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    if signal == 0:
        return -math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal > 0 and noise > 0 else math.nan


def compare(output: Array, reference: Array) -> Difference:
    """The difference of two arrays, (samples, ...).

    Raises:
        ValueError: if their shapes differ.
    """
    difference = Difference()
    difference.add(output, reference)
    return difference


def relative_error(output: Array, reference: Array) -> float:
    """:attr:`Difference.relative` of two arrays; infinite where their shapes differ."""
    try:
        return compare(output, reference).relative
    except ValueError:
        return np.inf
