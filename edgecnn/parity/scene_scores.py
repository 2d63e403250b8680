"""F1 of centres and mIoU of an artifact and of its reference, counted per sample so that they can be paired."""

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
    """F1 from sums of correct, predicted and true centres, (..., 3)."""
    right, found, there = (sums[..., i] for i in range(3))
    return np.asarray(2 * right / np.maximum(found + there, 1))


def mean_iou(sums: Array) -> Array:
    """Mean IoU over the classes that occur, from sums of the intersections and unions of each class, in pixels."""
    both, either = np.split(sums, 2, axis=-1)
    seen = either > 0
    overlap = np.where(seen, both / np.where(seen, either, 1), 0)
    return np.asarray(overlap.sum(-1) / np.maximum(seen.sum(-1), 1))


SCORES: Mapping[str, Callable[[Array], Array]] = MappingProxyType({"F1": f1, "mIoU": mean_iou})
"""Functions from sums of counts, (..., counts), to the score, (...)."""


@dataclass(slots=True)
class SceneScores:
    """Scores of outputs on images with known objects or masks.

    For each sample a few counts are kept, and the score is computed from their sums over samples: for centres the
    numbers of correct, predicted and true centres; for segmentation the intersection and union of each class.

    Args:
        task: The task that the output solves.
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
        """Add logits of both for the images with these indices, (samples, classes, rows, columns)."""
        self._output.append(self._counts(output, places))
        self._reference.append(self._counts(reference, places))

    @property
    def output_counts(self) -> Array:
        """Counts of the output, (samples, counts)."""
        return np.concatenate(self._output)

    @property
    def reference_counts(self) -> Array:
        """Counts of the reference, (samples, counts)."""
        return np.concatenate(self._reference)

    def value(self) -> float:
        """Score of the output."""
        return float(SCORES[self.name](self.output_counts.sum(0)))

    def reference_value(self) -> float:
        """Score of the reference."""
        return float(SCORES[self.name](self.reference_counts.sum(0)))

    def drop(self) -> tuple[Estimate, float]:
        """The reference's score minus the output's, and its standard error."""
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
