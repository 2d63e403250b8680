"""Scenes: handwritten digits of several sizes on a noisy ground, and what is where in them.

For detectors and segmentation nets, made of what is shipped. Each scene is composed when it is asked for, in the
model's own size, and is the same every time: random words come from a bit generator whose output numpy never changes.
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
"""How many there are. The last fifth is composed of digits that the others do not have."""
SMALLEST = 32
"""Height and width from which a digit of a sixth of them can be read."""

_SEED = 5
_TRIES = 8
"""Digits that are thrown at a scene; those that would touch another one are left out."""
_INK = 0.35
"""Share of full ink from which a pixel counts as the digit's."""

_KEPT = 256
"""Scenes that are kept: more than are held out, so that measuring after each epoch composes them once."""

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Composed:
    image: Image
    mask: Image
    objects: tuple[SceneObject, ...]


class Scenes:
    """The scenes, as images and as truth.

    Args:
        digits: Raw digits, 0 to 16, of shape (n, 8, 8).
        labels: What they are, shape (n,).
        held_out: Places of the digits that held-out scenes are composed of; the others are composed of the rest.
        size: Height and width of the scenes.

    Raises:
        DataError: if that is too small for anything to be seen.
    """

    def __init__(
        self, digits: npt.NDArray[np.generic], labels: Labels, held_out: Indices, size: tuple[int, int]
    ) -> None:
        if min(size) < SMALLEST:
            raise DataError(
                f"scenes of {by(size)} show nothing", hint=f"a model input of {SMALLEST}x{SMALLEST} or more"
            )
        self._digits, self._labels, self._size = digits, labels, size
        self._pools = (np.setdiff1d(np.arange(len(labels)), held_out), np.asarray(held_out))
        self._composed = lru_cache(maxsize=_KEPT)(self._compose)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """One channel, height and width."""
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
        """The class of every pixel, 0 for the ground: shape (len(indices), H, W)."""
        return np.stack([self._composed(int(i)).mask for i in indices]).astype(np.int64)

    def objects(self, index: int) -> tuple[SceneObject, ...]:
        """The digits of the scene at this place."""
        return self._composed(index).objects

    def _compose(self, index: int) -> _Composed:
        height, width = self._size
        random = _random(index)
        pool = self._pools[index >= SCENES - SCENES // HELD_OUT]
        values = _ground(index, self._size)
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
    """Numbers from 0 to below 1."""
    words = np.random.PCG64([_SEED, index])
    while True:
        yield int(words.random_raw()) / 2**64


def _ground(index: int, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A dark slope with noise on it."""
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
