"""Check labels and convert them to one class number per image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgecnn.data.dataset import Labels
from edgecnn.data.raw import MAX_CLASSES, by
from edgecnn.errors import DataError


def class_numbers(raw: npt.NDArray[np.generic], count: int, where: str) -> Labels:
    """The labels as int64 of shape (N,).

    Accepts a column of shape (N, 1), and floats that are whole numbers.

    Args:
        raw: The labels in the file.
        count: How many images there are.
        where: The file, for errors.

    Raises:
        DataError: if they are not one whole number from 0 up per image, or all of one class.
    """
    flat = raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw
    if flat.ndim != 1:
        raise _wrong(f"labels of shape {by(raw.shape)}", where, "one number per image (of one-hot labels: y.argmax(1))")
    if len(flat) != count:
        raise DataError(
            f"{count:,} images, but {len(flat):,} labels",
            where=where,
            hint="are both from the same part (train or test) of the set?",
        )
    if flat.dtype.kind not in "biuf" or not np.array_equal(flat, np.trunc(flat.astype(np.float64))):
        raise _wrong(f"labels of type {flat.dtype} that are not whole numbers", where, "number the classes from 0")
    low, high = float(flat.min()), float(flat.max())
    if low < 0 or high >= MAX_CLASSES:
        raise _wrong(f"labels from {low:.0f} to {high:.0f}", where, f"number the classes from 0, below {MAX_CLASSES:,}")
    return refuse_one_class(flat.astype(np.int64), where)


def refuse_one_class(labels: Labels, where: str) -> Labels:
    """The labels, if they are of at least two classes.

    Raises:
        DataError: if all images are of one class.
    """
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"all {len(labels):,} images are of one class",
            where=where,
            why="accuracy on one class says nothing",
            hint="add images of another class; for an npz or IDX file, leaving the labels out works too",
        )
    return labels


def _wrong(message: str, where: str, hint: str) -> DataError:
    return DataError(message, where=where, hint=hint)
