"""Data sets of preprocessed images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import DataError

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]
Batch = tuple[npt.NDArray[np.float32], Labels | None]


class ImageSource(Protocol):
    """A source of raw images: an array in memory, or files that are read on demand."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image that :meth:`load` returns."""

    def __len__(self) -> int: ...

    def load(self, indices: Indices) -> npt.NDArray[np.generic]:
        """The raw images at these places, resized but not scaled: shape (len(indices), C, H, W)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """An object in an image: its class, the row and column of its centre, and its side, all in pixels."""

    label: int
    row: float
    column: float
    side: float


class Truth(Protocol):
    """The true objects and pixel classes in the images of a source."""

    def masks(self, indices: Indices) -> Labels:
        """The class of every pixel, from 1, and 0 for background: shape (len(indices), H, W)."""

    def objects(self, index: int) -> tuple[SceneObject, ...]:
        """The objects in the image at this place."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Images with or without labels, preprocessed batch by batch.

    Attributes:
        name: The source and the part of it, for messages ("digits (held-out 360 of 1,797)").
        spec: The specification that it was loaded from ("digits", "npz:faces.npz").
        class_names: The name of each class; empty without classes.
        labels: One class number per image, int64 of shape (N,), or None.
        preprocessing: The transformation from a raw image to an input of the model.
        note: Changes to the images that the user should know, in one sentence; often empty.
        source: The raw images, of which this set may be a part.
        members: The places in ``source`` of this set's images, shape (N,).
        truth: The objects in the images of ``source``, or None if they are not known.
    """

    name: str
    spec: str
    class_names: tuple[str, ...]
    labels: Labels | None = field(repr=False)
    preprocessing: Preprocessing
    note: str
    source: ImageSource = field(repr=False)
    members: Indices = field(repr=False)
    truth: Truth | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an input of the model."""
        return self.source.input_shape

    def batch(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The preprocessed images at these places of the set: float32 of shape (n, C, H, W).

        Raises:
            DataError: if a place is outside the set, or an image file cannot be read.
        """
        return self.preprocessing.apply(self.source.load(self.members[self._places(indices)]))

    def batches(self, size: int) -> Iterator[Batch]:
        """All images in order, ``size`` at a time (the last batch may be smaller), with their labels.

        Only one batch is in memory at a time when the images are files.
        """
        if size < 1:
            raise DataError(f"a batch of {size} images is not possible", hint="a size of 1 or more")
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.batch(np.arange(start, stop)), None if self.labels is None else self.labels[start:stop]

    def masks(self, indices: npt.ArrayLike) -> Labels:
        """The class of every pixel of the images at these places, 0 for background: shape (n, H, W).

        Raises:
            DataError: if a place is outside the set, or the objects are not known.
        """
        return self._truth().masks(self.members[self._places(indices)])

    def objects(self, index: int) -> tuple[SceneObject, ...]:
        """The objects in the image at this place.

        Raises:
            DataError: if the place is outside the set, or it is not known what is where.
        """
        return self._truth().objects(int(self.members[self._places(index)[0]]))

    def _truth(self) -> Truth:
        if self.truth is None:
            raise DataError(f"the objects in {self.name} are not known", hint="--data scenes")
        return self.truth

    def take(self, indices: npt.ArrayLike) -> Dataset:
        """A data set of the images at these places, in this order. Copies and reads no image.

        Raises:
            DataError: if a place is outside the set.
        """
        places = self._places(indices)
        return replace(
            self,
            name=f"{self.name}, {len(places):,} of them",
            labels=None if self.labels is None else self.labels[places],
            members=self.members[places],
        )

    def spread(self, n: int) -> Indices:
        """``n`` different places spread evenly over the set (all of them if it has fewer), always the same."""
        if n < 1:
            raise DataError(f"{n} images cannot be chosen from {self.name}", hint="a number of 1 or more")
        n = min(n, len(self))
        return (2 * np.arange(n, dtype=np.int64) + 1) * len(self) // (2 * n)

    def _places(self, indices: npt.ArrayLike) -> Indices:
        places = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(places) and (places.min() < 0 or places.max() >= len(self)):
            raise DataError(f"{self.name} has {len(self):,} images, not one at place {int(places.max())}")
        return places
