"""All that is seen of one output of an artifact over a trial."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgecnn.parity.answers import Answers, Classes
from edgecnn.parity.metrics import Array, Difference

SWAP = 2
"""Steps by which one integer score may lead another and still lose to it where each may be off by one."""


@dataclass(slots=True)
class Measured:
    """What was seen of one output of an artifact.

    Attributes:
        difference: From the float reference.
        integer: From the integer reference, in LSB; None without one.
        own: From the float reference of the artifact's own precision, rounded weights and all; None without one.
        flips: Samples whose best class the integer reference puts more than ``SWAP`` steps below its own.
        scores: Whether the output is a row of scores per sample.
        answers: Best classes, where the output is such a row.
    """

    difference: Difference = field(default_factory=Difference)
    integer: Difference | None = None
    own: Difference | None = None
    flips: int = 0
    scores: bool = False
    answers: Answers = field(default_factory=Answers)

    def add(self, output: Array, reference: Array, labels: Array | None = None) -> None:
        """Compare a batch with the float reference's, and count right answers where there are labels."""
        self.difference.add(output, reference)
        if self.scores and len(output):
            self.answers.add(output, reference, labels)

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
        return self.difference.top1_agreement if self.scores else None

    @property
    def accuracy(self) -> float | None:
        """Share of labelled samples that the artifact got right."""
        return self._right(self.answers.got)

    @property
    def reference_accuracy(self) -> float | None:
        """Share of labelled samples that the reference got right."""
        return self._right(self.answers.expected)

    def _right(self, answers: Classes) -> float | None:
        labels = self.answers.labels
        return None if labels is None else float((answers == labels).mean())
