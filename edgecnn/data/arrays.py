"""Make a raw set from the arrays of a file; the readers of npz and IDX files share it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgecnn.data.image_axes import as_nchw
from edgecnn.data.labels import class_numbers
from edgecnn.data.preprocessing import Resize
from edgecnn.data.raw import RawSet, Shape, by
from edgecnn.data.resize import ArrayImages
from edgecnn.errors import DataError


def raw_set(
    title: str,
    images: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic] | None,
    wanted: Shape | None,
    *,
    class_names: tuple[str, ...] = (),
    scale: float | None = None,
    where: str,
) -> RawSet:
    """A raw set of images and labels, checked against each other and the model.

    Args:
        title: The name of the file, for messages.
        images: Shape (N, H, W), (N, C, H, W) or (N, H, W, C).
        labels: One number per image, or None.
        wanted: The model's channels, height and width, or None to keep the images' own.
        class_names: One name per class, or empty for the numbers themselves.
        scale: The scale of the raw values, if their source defines it; None for the default of their type.
        where: The file, for errors.

    Raises:
        DataError: if anything does not fit.
    """
    values = as_nchw(images, wanted, where)
    numbers = None if labels is None else class_numbers(labels, len(values), where)
    source = (values.shape[2], values.shape[3])
    size = source if wanted is None else wanted[1:]
    default, notes = _default_scale(images.dtype)
    return RawSet(
        title=title,
        images=ArrayImages(values, size),
        labels=numbers,
        class_names=() if numbers is None else _names(class_names, int(numbers.max()), where),
        scale=default if scale is None else scale,
        resize=None if size == source else Resize(source=source, size=size),
        notes=notes if size == source else (*notes, f"images resized from {by(source)} to {by(size)} (bilinear)"),
    )


def _default_scale(dtype: np.dtype[np.generic]) -> tuple[float, tuple[str, ...]]:
    if dtype == np.uint8:
        return 1 / 255, ()
    if dtype.kind in "fb":
        return 1.0, ()
    return 1.0, (f"{dtype.name} values used without scaling, unless --scale is given",)


def _names(given: tuple[str, ...], highest: int, where: str) -> tuple[str, ...]:
    if not given:
        return tuple(map(str, range(highest + 1)))
    if len(given) <= highest:
        raise DataError(f"{len(given)} class names, but labels up to {highest}", where=where)
    return given
