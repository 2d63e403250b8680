"""The data sets that are shipped with the package: the digits, and the scenes composed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgecnn.data.dataset import ImageSource, Indices
from edgecnn.data.npz import read_npz
from edgecnn.data.raw import RawSet, Shape
from edgecnn.data.scenes import Scenes
from edgecnn.data.split import part

_DIGITS = Path(__file__).with_name("digits.npz")
_SCENE = (96, 96)
"""Height and width of the scenes where no model says another."""
_RGB = 3


def read_digits(wanted: Shape | None) -> RawSet:
    """The digits, resized to the model's image; a model that takes RGB gets the grey value three times.

    Raises:
        DataError: if the model takes neither 1 nor 3 channels.
    """
    return _coloured(read_npz(_DIGITS, _grey(wanted), title="digits", scale=1 / 16), wanted)


def read_scenes(wanted: Shape | None) -> RawSet:
    """Scenes of several digits each, composed in the size of the model's image.

    Raises:
        DataError: if the model takes neither 1 nor 3 channels, or images too small to show anything.
    """
    if wanted is not None and wanted[0] not in (1, _RGB):
        return read_digits(wanted)  # which refuses
    digits = read_npz(_DIGITS, None)
    assert digits.labels is not None
    count = len(digits.images)
    held_out = part("test", digits.labels, count, seed=0)
    raw = digits.images.load(np.arange(count))[:, 0]
    scenes = Scenes(raw, digits.labels, held_out, _SCENE if wanted is None else wanted[1:])
    grey = RawSet(
        title="scenes",
        images=scenes,
        labels=None,
        class_names=digits.class_names,
        scale=1 / 255,
        truth=scenes,
        held_out=scenes.held_out,
    )
    return _coloured(grey, wanted)


SHIPPED: Mapping[str, Callable[[Shape | None], RawSet]] = MappingProxyType(
    {"digits": read_digits, "scenes": read_scenes}
)
"""What reads each of them."""


class _Repeated:
    """Grey images with their one channel three times."""

    def __init__(self, grey: ImageSource) -> None:
        self._grey = grey

    @property
    def input_shape(self) -> Shape:
        return (_RGB, *self._grey.input_shape[1:])

    def __len__(self) -> int:
        return len(self._grey)

    def load(self, indices: Indices) -> npt.NDArray[np.generic]:
        return self._grey.load(indices).repeat(_RGB, axis=1)


def _grey(wanted: Shape | None) -> Shape | None:
    """The shape to read grey images in; other channels than 1 and 3 are left for the reader to refuse."""
    return (1, *wanted[1:]) if wanted is not None and wanted[0] == _RGB else wanted


def _coloured(raw: RawSet, wanted: Shape | None) -> RawSet:
    if wanted is None or wanted[0] != _RGB:
        return raw
    return replace(raw, images=_Repeated(raw.images), notes=(*raw.notes, "grey values repeated in 3 channels"))
