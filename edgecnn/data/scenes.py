"""Scenes: handwritten digits of several sizes on a noisy background, with their positions and pixel classes.

They serve detectors and segmentation nets, and are composed of the shipped digits. Each scene is composed on demand in
the model's size, and is always the same: its random words come from a bit generator whose output numpy never changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgecnn.data.dataset import Indices, Labels, SceneObject
from edgecnn.data.raw import by
from edgecnn.data.resize import resize
from edgecnn.data.split import HELD_OUT
from edgecnn.errors import DataError

SCENES = 1000
"""The number of scenes. The last fifth is composed of digits that the others do not have."""
SMALLEST = 32
"""Smallest height and width at which a digit of a sixth of the side is legible."""

_SEED = 5
_TRIES = 8
"""How often a digit is placed in a scene; one that would touch another is left out."""
_INK = 0.35
"""Share of full ink from which a pixel belongs to the digit."""

_CACHED = 256
"""Number of cached scenes: more than are held out, so that they are composed once, not after each epoch."""

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Composed:
    image: Image
    mask: Image
    objects: tuple[SceneObject, ...]


class Scenes:
    """The scenes: their images and the objects in them.

    Args:
        digits: Raw digits, 0 to 16, of shape (n, 8, 8).
        labels: The digit in each, shape (n,).
        held_out: Places of the digits for held-out scenes; the other scenes are composed of the other digits.
        size: Height and width of the scenes.

    Raises:
        DataError: if the size is too small for legible digits.
    """

    def __init__(
        self, digits: npt.NDArray[np.generic], labels: Labels, held_out: Indices, size: tuple[int, int]
    ) -> None:
        if min(size) < SMALLEST:
            raise DataError(
                f"scenes of {by(size)} are too small to show digits",
                hint=f"a model input of {SMALLEST}x{SMALLEST} or more",
            )
        self._digits, self._labels, self._size = digits, labels, size
        self._pools = (np.setdiff1d(np.arange(len(labels)), held_out), np.asarray(held_out))
        self._composed = lru_cache(maxsize=_CACHED)(self._compose)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """One channel, and the height and width of the scenes."""
        return (1, *self._size)

    @property
    def held_out(self) -> Indices:
        """Places of the held-out scenes."""
        return np.arange(SCENES - SCENES // HELD_OUT, SCENES)

    def __len__(self) -> int:
        return SCENES

    def load(self, indices: Indices) -> npt.NDArray[np.generic]:
        """The scenes at these places: uint8 of shape (len(indices), 1, H, W)."""
        return np.stack([self._composed(int(i)).image for i in indices])[:, np.newaxis]

    def masks(self, indices: Indices) -> Labels:
        """The class of every pixel, 0 for the background: shape (len(indices), H, W)."""
        return np.stack([self._composed(int(i)).mask for i in indices]).astype(np.int64)

    def objects(self, index: int) -> tuple[SceneObject, ...]:
        """The digits of the scene at this place."""
        return self._composed(index).objects

    def _compose(self, index: int) -> _Composed:
        height, width = self._size
        random = _random(index)
        pool = self._pools[index >= SCENES - SCENES // HELD_OUT]
        values = _background(index, self._size)
        mask = np.zeros(self._size, np.uint8)
        objects: list[SceneObject] = []
        for _ in range(_TRIES):
            which = pool[int(next(random) * len(pool))]
            side = int(min(height, width) * (1 / 6 + next(random) / 12))
            top, left = int(next(random) * (height - side + 1)), int(next(random) * (width - side + 1))
            strength = 0.6 + 0.4 * next(random)
            if any(_touches(o, top, left, side) for o in objects):
                continue
            digit = self._digits[which].astype(np.float32)[np.newaxis, np.newaxis] / 16
            ink = np.clip(resize(digit, (side, side))[0, 0], 0, 1)
            box = (slice(top, top + side), slice(left, left + side))
            values[box] += (strength - values[box]) * ink
            mask[box][ink > _INK] = self._labels[which] + 1
            centre = (top + side / 2, left + side / 2)
            objects.append(SceneObject(label=int(self._labels[which]), row=centre[0], column=centre[1], side=side))
        return _Composed(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8), mask, tuple(objects))


def _random(index: int) -> Iterator[float]:
    """Random numbers from 0 to below 1."""
    words = np.random.PCG64([_SEED, index])
    while True:
        yield int(words.random_raw()) / 2**64


def _background(index: int, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A dark gradient with noise."""
    words = np.random.PCG64([_SEED, index, 1]).random_raw(3 + size[0] * size[1])
    level, down, right, *_ = (words[:3] / 2**64).tolist()
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    slope = level + (down - 0.5) * rows / size[0] + (right - 0.5) * columns / size[1]
    noise = (words[3:] / 2**64).reshape(size) - 0.5
    values: npt.NDArray[np.float64] = np.clip(0.25 * slope, 0, 1) + 0.15 * noise
    return values


def _touches(other: SceneObject, top: int, left: int, side: int) -> bool:
    apart = (side + other.side) / 2 + 1
    return abs(top + side / 2 - other.row) < apart and abs(left + side / 2 - other.column) < apart
