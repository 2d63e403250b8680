"""The data sets of the package: the digits, and the scenes composed of them."""

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
"""Default height and width of the scenes."""
_RGB = 3


def read_digits(wanted: Shape | None) -> RawSet:
    """The digits, resized to the model's input; for RGB the grey value is repeated three times.

    Raises:
        DataError: if the model takes neither 1 nor 3 channels.
    """
    return _coloured(read_npz(_DIGITS, _grey(wanted), title="digits", scale=1 / 16), wanted)


def read_scenes(wanted: Shape | None) -> RawSet:
    """Scenes of several digits each, in the size of the model's input.

    Raises:
        DataError: if the model takes neither 1 nor 3 channels, or images too small for legible digits.
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
"""The reader of each shipped data set."""


class _Repeated:
    """Grey images with their channel repeated three times."""

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
    """The shape for reading grey images. The reader refuses other numbers of channels than 1 and 3."""
    return (1, *wanted[1:]) if wanted is not None and wanted[0] == _RGB else wanted


def _coloured(raw: RawSet, wanted: Shape | None) -> RawSet:
    if wanted is None or wanted[0] != _RGB:
        return raw
    return replace(raw, images=_Repeated(raw.images), notes=(*raw.notes, "grey values repeated in 3 channels"))
