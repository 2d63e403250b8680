"""All that is seen of one output of an artifact over a trial."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgecnn.parity.best_classes import BestClasses
from edgecnn.parity.metrics import Difference
from edgecnn.parity.scene_scores import SceneScores
from edgecnn.parity.statistics import Estimate
from edgecnn.types import Array

SWAP = 2
"""Steps by which one integer score may lead another and still lose to it where each may be off by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Right answers of an artifact and of its reference to the same samples.

    Attributes:
        samples: How many there are.
        right: That the artifact is right about.
        reference_right: That the reference is right about.
        lost: That only the reference is right about.
        gained: That only the artifact is right about.
    """

    samples: int
    right: int
    reference_right: int
    lost: int
    gained: int


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
        scene: F1 or mIoU, where the data says what is where and the output speaks of that.
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
    def pairs(self) -> Pairs | None:
        """Which samples the artifact and its reference are right about; None without labels."""
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
        """`SceneScores.drop`, which takes long, worked out once."""
        if self._scene_drop is None:
            assert self.scene is not None
            self._scene_drop = self.scene.drop()
        return self._scene_drop
