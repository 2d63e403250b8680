"""What a model is trained for, and how well it does: classes of images, centres of objects, classes of pixels.

Which of them it is follows from the data and the model's output. Labelled images with one row of logits each: classes.
Images of which is known what is where: with logits for every pixel segmentation, with logits for every cell of a
coarser grid the centres of objects. Class 0 is background in both. Nothing here needs torch.
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
"""What a cell or pixel of an object counts for in training, beside 1 for the many without. tiny_unet comes to a mIoU of
85 % on the scenes with it, and to 65 % in the same time without."""


class Scorer(Protocol):
    """Takes what a model says, batch by batch, and comes to figures. The first is the one that counts."""

    def add(self, outputs: Array, data: Dataset, places: Indices) -> None:
        """Take what the model said to the images at these places."""

    def scores(self) -> dict[str, float]:
        """Each from 0 to 1, 1 being best."""


class Task(Protocol):
    """What a model is to say to the images of a data set."""

    @property
    def weights(self) -> Sequence[float] | None:
        """What each class counts for in training; None for all the same."""

    @property
    def shifts(self) -> bool:
        """Whether images may be shifted in training, because the target stays what it is."""

    def targets(self, data: Dataset, places: Indices) -> Labels:
        """The class for each logit row or cell: shape (n,) or (n, rows, columns)."""

    def scorer(self) -> Scorer:
        """A new one."""


def task_of(data: Dataset, output_shape: Sequence[int]) -> Task:
    """The task that a model with such an output has on such data.

    Args:
        data: Images with labels, or of which is known what is where.
        output_shape: With the batch.

    Raises:
        DataError: if nothing is known of the images.
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
        """The labels."""
        assert data.labels is not None
        return data.labels[places]

    def scorer(self) -> Scorer:
        """Accuracy."""
        return _Accuracy()


@dataclass(frozen=True, slots=True)
class Segments:
    """A class for every pixel; ``count`` includes the background."""

    count: int
    shifts = False

    @property
    def weights(self) -> Sequence[float]:
        """More for pixels of objects, which are few."""
        return _object_weights(self.count)

    def targets(self, data: Dataset, places: Indices) -> Labels:
        """The masks."""
        return data.masks(places)

    def scorer(self) -> Scorer:
        """Mean intersection over union."""
        return _Overlap(self.count)


@dataclass(frozen=True, slots=True)
class Centres:
    """For every cell of a grid the class of what is centred in it; ``count`` includes the background."""

    count: int
    grid: tuple[int, int]
    shifts = False

    @property
    def weights(self) -> Sequence[float]:
        """More for cells with an object, which are few."""
        return _object_weights(self.count)

    def targets(self, data: Dataset, places: Indices) -> Labels:
        """Which cell has which centre."""
        rows, columns = self.grid
        height, width = data.input_shape[1:]
        cells = np.zeros((len(places), rows, columns), np.int64)
        for cell, place in zip(cells, places, strict=True):
            for o in data.objects(int(place)):
                cell[int(o.row * rows / height), int(o.column * columns / width)] = o.label + 1
        return cells

    def scorer(self) -> Scorer:
        """Precision and recall of centres."""
        return _Found()


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """An object that was found: its class, the row and column of its cell's middle in pixels, and the probability."""

    label: int
    row: float
    column: float
    probability: float


def find_centres(logits: Array, image_size: tuple[int, int]) -> list[Centre]:
    """The objects that a grid of logits speaks of, the likeliest first.

    A cell speaks of an object where that is likelier than background, and likelier than in the eight cells around.

    Args:
        logits: Shape (classes, rows, columns), class 0 being background.
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
    """For each centre the object that it is right about: of its class, no further than a cell, and no other's yet.

    Args:
        found: The likeliest first.
        objects: What is there.
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
class _Accuracy:
    right: int = 0
    seen: int = 0

    def add(self, outputs: Array, data: Dataset, places: Indices) -> None:
        assert data.labels is not None
        self.right += int((outputs.argmax(1) == data.labels[places]).sum())
        self.seen += len(places)

    def scores(self) -> dict[str, float]:
        return {"accuracy": self.right / self.seen}


@dataclass(slots=True)
class _Overlap:
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
class _Found:
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
    """The background's weight, then those of objects."""
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


def described(scores: Mapping[str, float]) -> str:
    """Scores for people: "F1 91.20%, precision 92.00%, recall 90.42%"."""
    return ", ".join(f"{name} {value:.2%}" for name, value in scores.items())
