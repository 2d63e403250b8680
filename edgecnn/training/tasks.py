"""Tasks that a model is trained for, and their scores: classes of images, centres of objects, classes of pixels.

The data and the model's output determine the task. Labelled images with one row of logits each: classification. Images
with known objects: segmentation if there are logits for every pixel, or centres of objects if there are logits for
every cell of a coarser grid. Class 0 is background in both. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgecnn.data.dataset import Dataset, Indices, Labels, SceneObject
from edgecnn.errors import DataError, ModelError
from edgecnn.types import Array

OBJECT_WEIGHT = 4.0
"""The weight of a cell or pixel of an object in training; background has 1. With it tiny_unet reaches a mIoU of 85 %
on the scenes, without it 65 % in equal time."""


class Scorer(Protocol):
    """Computes scores from a model's outputs, batch by batch. The first score is the main one."""

    def add(self, outputs: Array, data: Dataset, places: Indices) -> None:
        """Add the model's outputs for the images at these places."""

    def scores(self) -> dict[str, float]:
        """Scores from 0 to 1, where 1 is best."""


class Task(Protocol):
    """The outputs that a model is trained to give on a data set."""

    @property
    def weights(self) -> Sequence[float] | None:
        """The weight of each class in training; None for equal weights."""

    @property
    def shifts(self) -> bool:
        """Whether a shift of an image leaves its target unchanged, so that training may shift images."""

    def targets(self, data: Dataset, places: Indices) -> Labels:
        """The true class of each image or cell: shape (n,) or (n, rows, columns)."""

    def scorer(self) -> Scorer:
        """A new scorer."""


def task_of(data: Dataset, output_shape: Sequence[int]) -> Task:
    """The task that follows from a model's output shape and the data.

    Args:
        data: Images with labels or known objects.
        output_shape: The shape of the output, with the batch.

    Raises:
        DataError: if the images have neither labels nor objects.
        ModelError: if the output fits no task on them.
    """
    if data.truth is None:
        return Classes(_classes(data, output_shape))
    count = len(data.class_names) + 1
    said = "x".join(map(str, output_shape))
    height, width = data.input_shape[1:]
    if len(output_shape) != 4 or output_shape[1] < count:
        raise ModelError(
            f"the model's output is {said}, but {data.spec} has {count - 1} classes of objects, and background",
            hint=f"an output of N x {count} x rows x columns (zoo: fomo, tiny_unet)",
        )
    rows, columns = output_shape[2:]
    if (rows, columns) == (height, width):
        return Segments(count)
    if rows > height or columns > width:
        raise ModelError(f"the model's output, {said}, is larger than the image", hint=f"at most {height}x{width}")
    return Centres(count, (rows, columns))


@dataclass(frozen=True, slots=True)
class Classes:
    """One class per image."""

    count: int
    shifts = True
    weights = None

    def targets(self, data: Dataset, places: Indices) -> Labels:
        """The labels of the images."""
        assert data.labels is not None
        return data.labels[places]

    def scorer(self) -> Scorer:
        """A scorer of accuracy."""
        return _AccuracyScorer()


@dataclass(frozen=True, slots=True)
class Segments:
    """A class for every pixel; ``count`` includes the background."""

    count: int
    shifts = False

    @property
    def weights(self) -> Sequence[float]:
        """Weights that favour pixels of objects, which are few."""
        return _object_weights(self.count)

    def targets(self, data: Dataset, places: Indices) -> Labels:
        """The masks of the images."""
        return data.masks(places)

    def scorer(self) -> Scorer:
        """A scorer of mean intersection over union."""
        return _OverlapScorer(self.count)


@dataclass(frozen=True, slots=True)
class Centres:
    """The class of the object centred in each cell of a grid; ``count`` includes the background."""

    count: int
    grid: tuple[int, int]
    shifts = False

    @property
    def weights(self) -> Sequence[float]:
        """Weights that favour cells with an object, which are few."""
        return _object_weights(self.count)

    def targets(self, data: Dataset, places: Indices) -> Labels:
        """The class of the object centred in each cell, 0 for none."""
        rows, columns = self.grid
        height, width = data.input_shape[1:]
        cells = np.zeros((len(places), rows, columns), np.int64)
        for cell, place in zip(cells, places, strict=True):
            for o in data.objects(int(place)):
                cell[int(o.row * rows / height), int(o.column * columns / width)] = o.label + 1
        return cells

    def scorer(self) -> Scorer:
        """A scorer of F1, precision and recall of centres."""
        return _CentreScorer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """A detected object: its class, the row and column of its cell's middle in pixels, and the probability."""

    label: int
    row: float
    column: float
    probability: float


def find_centres(logits: Array, image_size: tuple[int, int]) -> list[Centre]:
    """The objects that a grid of logits detects, the likeliest first.

    A cell detects an object if that is likelier than background, and likelier than in the eight cells around it.

    Args:
        logits: Logits of shape (classes, rows, columns); class 0 is background.
        image_size: Height and width of the image.
    """
    exponentials = np.exp(logits - logits.max(0))
    object_share = 1 - exponentials[0] / exponentials.sum(0)
    rows, columns = object_share.shape
    padded = np.pad(object_share, 1, constant_values=-1.0)
    around = np.max([padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3)], axis=0)
    found = [
        Centre(
            label=int(logits[1:, r, c].argmax()),
            row=(r + 0.5) * image_size[0] / rows,
            column=(c + 0.5) * image_size[1] / columns,
            probability=float(object_share[r, c]),
        )
        for r, c in np.argwhere((object_share > 0.5) & (object_share == around)).tolist()
    ]
    return sorted(found, key=lambda centre: -centre.probability)


def match_centres(
    found: Sequence[Centre], objects: Sequence[SceneObject], cell: tuple[float, float]
) -> list[SceneObject | None]:
    """For each detected centre the object that it matches, or None.

    An object matches if it has the centre's class, lies within one cell, and matches no earlier centre.

    Args:
        found: Detected centres, the likeliest first.
        objects: The objects in the image.
        cell: Height and width of a cell in pixels.
    """
    left = list(objects)
    matched: list[SceneObject | None] = []
    for centre in found:
        near = [
            o
            for o in left
            if o.label == centre.label
            and abs(o.row - centre.row) <= cell[0]
            and abs(o.column - centre.column) <= cell[1]
        ]
        nearest = min(near, key=lambda o: abs(o.row - centre.row) + abs(o.column - centre.column), default=None)
        matched.append(nearest)
        if nearest is not None:
            left.remove(nearest)
    return matched


@dataclass(slots=True)
class _AccuracyScorer:
    right: int = 0
    seen: int = 0

    def add(self, outputs: Array, data: Dataset, places: Indices) -> None:
        assert data.labels is not None
        self.right += int((outputs.argmax(1) == data.labels[places]).sum())
        self.seen += len(places)

    def scores(self) -> dict[str, float]:
        return {"accuracy": self.right / self.seen}


@dataclass(slots=True)
class _OverlapScorer:
    count: int
    confusion: Array = field(init=False)

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.count, self.count), np.int64)

    def add(self, outputs: Array, data: Dataset, places: Indices) -> None:
        pairs = data.masks(places) * self.count + outputs[:, : self.count].argmax(1)
        self.confusion += np.bincount(pairs.reshape(-1), minlength=self.count**2).reshape(self.count, self.count)

    def scores(self) -> dict[str, float]:
        both = np.diag(self.confusion)
        either = self.confusion.sum(0) + self.confusion.sum(1) - both
        overlap = both[either > 0] / either[either > 0]
        return {"mIoU": float(overlap.mean()), "pixel accuracy": float(both.sum() / self.confusion.sum())}


@dataclass(slots=True)
class _CentreScorer:
    right: int = 0
    found: int = 0
    there: int = 0

    def add(self, outputs: Array, data: Dataset, places: Indices) -> None:
        size = data.input_shape[1:]
        cell = (size[0] / outputs.shape[2], size[1] / outputs.shape[3])
        for logits, place in zip(outputs, places, strict=True):
            centres, objects = find_centres(logits, size), data.objects(int(place))
            self.right += sum(o is not None for o in match_centres(centres, objects, cell))
            self.found += len(centres)
            self.there += len(objects)

    def scores(self) -> dict[str, float]:
        precision, recall = self.right / max(self.found, 1), self.right / max(self.there, 1)
        f1 = 2 * self.right / max(self.found + self.there, 1)
        return {"F1": f1, "precision": precision, "recall": recall}


def _object_weights(count: int) -> list[float]:
    """The weight of the background, then those of objects."""
    return [1.0, *[OBJECT_WEIGHT] * (count - 1)]


def _classes(data: Dataset, output_shape: Sequence[int]) -> int:
    if data.labels is None:
        raise DataError(
            f"{data.name} has no labels",
            why="training and accuracy need the class of every image",
            hint="npz: add an array y; idx:IMAGES,LABELS; folder: one folder per class",
        )
    classes = max(int(data.labels.max()) + 1, len(data.class_names))
    if len(output_shape) != 2 or output_shape[1] < classes:
        raise ModelError(
            f"the model's output is {'x'.join(map(str, output_shape))}, but there are {classes} classes",
            hint=f"a model that ends in {classes} logits per image (zoo: --arg num_classes={classes})",
        )
    return classes


def score_text(scores: Mapping[str, float]) -> str:
    """Scores as text: "F1 91.20%, precision 92.00%, recall 90.42%"."""
    return ", ".join(f"{name} {value:.2%}" for name, value in scores.items())
