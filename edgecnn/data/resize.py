"""Resize images, and raw images in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgecnn.data.dataset import Indices


class ArrayImages:
    """Raw images in memory, in their original dtype, resized on demand.

    Args:
        values: Images of shape (N, C, H, W).
        size: Height and width after the resize.
    """

    def __init__(self, values: npt.NDArray[np.generic], size: tuple[int, int]) -> None:
        self._values = values
        self._size = size

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width after the resize."""
        return (self._values.shape[1], *self._size)

    def __len__(self) -> int:
        return len(self._values)

    def load(self, indices: Indices) -> npt.NDArray[np.generic]:
        """The raw images at these places, resized: shape (len(indices), C, H, W)."""
        return resize(self._values[indices], self._size)


def resize(images: npt.NDArray[np.generic], size: tuple[int, int]) -> npt.NDArray[np.generic]:
    """Images resized by Pillow's bilinear filter, which averages over source pixels when images get smaller.

    Bytes stay bytes, rounded; all other types become float32.

    Args:
        images: Raw values of shape (N, C, H, W).
        size: Height and width after the resize. Images that already have this size are returned unchanged.

    Returns:
        Images of shape (N, C, *size): uint8 for uint8, else float32.
    """
    if images.shape[2:] == size:
        return images
    from PIL import Image

    dtype = np.uint8 if images.dtype == np.uint8 else np.float32  # modes L and F
    out = np.empty((*images.shape[:2], *size), dtype)
    for place in np.ndindex(images.shape[:2]):
        plane = Image.fromarray(np.ascontiguousarray(images[place], dtype))
        out[place] = np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return out
