"""F1 of centres and mIoU of an artifact beside its reference, sample by sample, so that the two can be paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from edgecnn.data.dataset import Dataset, Indices
from edgecnn.parity.statistics import Estimate, bootstrap_drop
from edgecnn.training.tasks import Centres, Segments, find_centres, match_centres
from edgecnn.types import Array


def f1(sums: Array) -> Array:
    """F1 from sums of right, found and present centres, (..., 3)."""
    right, found, there = (sums[..., i] for i in range(3))
    return np.asarray(2 * right / np.maximum(found + there, 1))


def mean_iou(sums: Array) -> Array:
    """Mean IoU over the classes that occur, from sums of pixels that both sides and that either side call a class."""
    both, either = np.split(sums, 2, axis=-1)
    seen = either > 0
    overlap = np.where(seen, both / np.where(seen, either, 1), 0)
    return np.asarray(overlap.sum(-1) / np.maximum(seen.sum(-1), 1))


SCORES: Mapping[str, Callable[[Array], Array]] = MappingProxyType({"F1": f1, "mIoU": mean_iou})
"""From sums of counts, (..., counts), to the score, (...)."""


@dataclass(slots=True)
class SceneScores:
    """Scores of outputs on images of which is known what is where.

    For each sample a few counts are kept that sum over samples, and of whose sums the score is made: for centres those
    that are right, found and there; for classes of pixels those that both sides, and that either side, call a class.

    Args:
        task: What the output is to say.
        data: The images.
    """

    task: Centres | Segments
    data: Dataset
    _output: list[Array] = field(default_factory=list)
    _reference: list[Array] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``F1`` or ``mIoU``."""
        return "F1" if isinstance(self.task, Centres) else "mIoU"

    def add(self, output: Array, reference: Array, places: Indices) -> None:
        """Take in what both said to the images at these places, logits of shape (samples, classes, rows, columns)."""
        self._output.append(self._counts(output, places))
        self._reference.append(self._counts(reference, places))

    @property
    def output_counts(self) -> Array:
        """The output's counts, (samples, counts)."""
        return np.concatenate(self._output)

    @property
    def reference_counts(self) -> Array:
        """The reference's."""
        return np.concatenate(self._reference)

    def value(self) -> float:
        """The output's score."""
        return float(SCORES[self.name](self.output_counts.sum(0)))

    def reference_value(self) -> float:
        """The reference's."""
        return float(SCORES[self.name](self.reference_counts.sum(0)))

    def drop(self) -> tuple[Estimate, float]:
        """How much the output's score is below the reference's, and the standard error of that."""
        return bootstrap_drop(self.reference_counts, self.output_counts, SCORES[self.name])

    def _counts(self, logits: Array, places: Indices) -> Array:
        count = self._centres if isinstance(self.task, Centres) else self._pixels
        return np.array([count(row, int(place)) for row, place in zip(logits, places, strict=True)], np.int32)

    def _centres(self, logits: Array, place: int) -> list[int]:
        size = self.data.input_shape[1:]
        cell = (size[0] / logits.shape[1], size[1] / logits.shape[2])
        found, objects = find_centres(logits, size), self.data.objects(place)
        right = sum(o is not None for o in match_centres(found, objects, cell))
        return [right, len(found), len(objects)]

    def _pixels(self, logits: Array, place: int) -> Array:
        classes = self.task.count
        said, true = logits[:classes].argmax(0).reshape(-1), self.data.masks([place]).reshape(-1)
        both = np.bincount(true[said == true], minlength=classes)
        return np.concatenate(
            [both, np.bincount(said, minlength=classes) + np.bincount(true, minlength=classes) - both]
        )
