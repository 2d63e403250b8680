"""Find the layout of an array of images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgecnn.data.raw import Shape, by, check_finite
from edgecnn.errors import DataError

Images = npt.NDArray[np.generic]

_LAYOUTS = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2)}


def as_nchw(values: Images, wanted: Shape | None, where: str) -> Images:
    """An array of images as a view of shape (N, C, H, W), in its own dtype.

    Three axes are N, H, W. Of four axes, the channel axis is the one whose length is the model's number of channels; if
    two axes have that length, the layout is the one whose height and width also match the model.

    Args:
        values: Shape (N, H, W), (N, C, H, W) or (N, H, W, C).
        wanted: The model's channels, height and width, or None when there is no model.
        where: The file, for errors.

    Raises:
        DataError: if the array has none of these layouts or could have two, or holds no images, NaN, or no numbers.
    """
    _check_numbers(values, where)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    images = _grey(native, wanted, where) if values.ndim == 3 else _colour(native, wanted, where)
    if 0 in images.shape:
        raise DataError(f"no images: the array's shape is {by(values.shape)}", where=where)
    check_finite(images, where)
    return images.astype(np.float32) if images.dtype == np.bool_ else images


def _check_numbers(values: Images, where: str) -> None:
    if values.dtype.kind not in "biuf":
        raise DataError(f"images of type {values.dtype} are not numbers", where=where, hint="save uint8 or float32")
    if values.ndim not in (3, 4):
        raise DataError(
            f"an array of shape {by(values.shape)} is not a set of images",
            where=where,
            why="images are N,H,W or N,C,H,W or N,H,W,C",
            hint="reshape it before saving, as in x.reshape(-1, 28, 28)",
        )


def _grey(values: Images, wanted: Shape | None, where: str) -> Images:
    if wanted is not None and wanted[0] != 1:
        raise channels_differ(1, wanted, where)
    return values[:, np.newaxis]


def _colour(values: Images, wanted: Shape | None, where: str) -> Images:
    channels = (1, 3) if wanted is None else (wanted[0],)
    views = {name: values.transpose(axes) for name, axes in _LAYOUTS.items()}
    fits = {name: view for name, view in views.items() if view.shape[1] in channels}
    if len(fits) == 2 and wanted is not None:
        fits = {name: view for name, view in fits.items() if view.shape[1:] == wanted} or fits
    if len(fits) == 1:
        return next(iter(fits.values()))
    if not fits and wanted is not None:
        raise channels_differ(min(values.shape[1], values.shape[3]), wanted, where)
    raise DataError(
        f"an array of shape {by(values.shape)} could be N,C,H,W or N,H,W,C" if fits else _no_channels(values),
        where=where,
        hint="give the model's shape with --input-shape, or save the images as N,C,H,W in the model's own size",
    )


def _no_channels(values: Images) -> str:
    return f"no axis of the shape {by(values.shape)} looks like channels (1 or 3)"


def channels_differ(channels: int, wanted: Shape, where: str) -> DataError:
    """The error for images whose number of channels is not the model's."""
    made = "x.mean(1)" if wanted[0] == 1 else f"numpy.repeat(x[:, None], {wanted[0]}, 1)"
    convert = f"convert the images before saving, for example with {made}, or use folder:DIR, which converts"
    rebuild = f"build the model with --arg in_channels={channels} if it has that argument"
    return DataError(
        f"the images have {channels} channel{'s' * (channels != 1)}, the model takes {wanted[0]}",
        where=where,
        hint=f"{convert}\n{rebuild}",
    )
