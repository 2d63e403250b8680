"""All measurements of one output of an artifact over one set of samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgecnn.parity.best_classes import BestClasses
from edgecnn.parity.metrics import Difference
from edgecnn.parity.scene_scores import SceneScores
from edgecnn.parity.statistics import Estimate
from edgecnn.types import Array

SWAP = 2
"""Lead of one integer score over another that vanishes if each of them is off by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Paired counts of the right answers of an artifact and of its reference.

    Attributes:
        samples: Number of samples.
        right: Samples that the artifact gets right.
        reference_right: Samples that the reference gets right.
        lost: Samples that only the reference gets right.
        gained: Samples that only the artifact gets right.
    """

    samples: int
    right: int
    reference_right: int
    lost: int
    gained: int


@dataclass(slots=True)
class Measured:
    """The measurements of one output of an artifact.

    Attributes:
        difference: Difference from the float reference.
        integer: Difference from the integer reference, in LSB; None without one.
        own: Difference from the float reference of the artifact's own precision, with the same rounded weights;
            None without one.
        flips: Samples whose best class the integer reference puts more than ``SWAP`` steps below its own.
        scores: Whether the output is a row of scores per sample.
        answers: Best classes, if the output is such a row.
        scene: F1 or mIoU, if the data has objects or masks and the output predicts them.
    """

    difference: Difference = field(default_factory=Difference)
    integer: Difference | None = None
    own: Difference | None = None
    flips: int = 0
    scores: bool = False
    answers: BestClasses = field(default_factory=BestClasses)
    scene: SceneScores | None = None
    _scene_drop: tuple[Estimate, float] | None = None

    def add(self, output: Array, reference: Array, labels: Array | None = None) -> None:
        """Compare a batch with the float reference, and count right answers if there are labels."""
        self.difference.add(output, reference)
        if self.scores and len(output):
            self.answers.add(output, reference, labels)

    def add_integers(self, output: Array, reference: Array) -> None:
        """Compare the integers of a batch with the integer reference."""
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
        """Share of samples with the reference's best class; None if the output is not a row of class scores."""
        return self.difference.top1_agreement if self.scores else None

    @property
    def pairs(self) -> Pairs | None:
        """Paired counts of right answers of the artifact and its reference; None without labels."""
        labels = self.answers.labels
        if labels is None:
            return None
        ours, theirs = self.answers.got == labels, self.answers.expected == labels
        return Pairs(
            samples=len(labels),
            right=int(ours.sum()),
            reference_right=int(theirs.sum()),
            lost=int((theirs & ~ours).sum()),
            gained=int((ours & ~theirs).sum()),
        )

    @property
    def accuracy(self) -> float | None:
        """Share of labelled samples that the artifact got right."""
        return None if self.pairs is None else self.pairs.right / self.pairs.samples

    @property
    def reference_accuracy(self) -> float | None:
        """Share of labelled samples that the reference got right."""
        return None if self.pairs is None else self.pairs.reference_right / self.pairs.samples

    def scene_drop(self) -> tuple[Estimate, float]:
        """`SceneScores.drop`, computed once because it is slow."""
        if self._scene_drop is None:
            assert self.scene is not None
            self._scene_drop = self.scene.drop()
        return self._scene_drop
