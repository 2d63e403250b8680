"""The result of a file reader, before it becomes a data set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecnn.data.dataset import ImageSource, Indices, Labels, Truth
from edgecnn.data.preprocessing import Resize
from edgecnn.errors import DataError

Shape = tuple[int, int, int]
"""Channels, height and width."""

MAX_BYTES = 4 * 2**30
"""The largest array that is read into memory: 4 GiB. Files whose header declares more are refused."""

MAX_CLASSES = 2**16
"""The largest number of classes that labels may have."""


@dataclass(frozen=True, kw_only=True)
class RawSet:
    """Images and labels of a source, with its metadata.

    Attributes:
        title: The name of the file or folder, for messages.
        images: The raw images, resized to the model's size.
        labels: int64 of shape (N,), or None.
        class_names: One name per class; empty without classes.
        scale: Default factor for raw values.
        resize: The resize that ``images`` performs, if any.
        notes: Notes for the user.
        truth: The objects in the images, if they are known.
        held_out: The places of the images to hold out, if the source defines them; None for a fifth of each class.
    """

    title: str
    images: ImageSource
    labels: Labels | None
    class_names: tuple[str, ...]
    scale: float
    resize: Resize | None = None
    notes: tuple[str, ...] = ()
    truth: Truth | None = None
    held_out: Indices | None = None


@contextmanager
def reading(path: Path, what: str, *damage: type[Exception]) -> Iterator[None]:
    """Turn a failure to open or decode ``path`` into a DataError that names the file.

    Args:
        path: The file.
        what: What it should be, with its article ("an IDX file").
        damage: The errors of the decoder for a file of another kind, besides OSError without a number.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), hint="check the path after the colon of --data") from error
    except IsADirectoryError as error:
        raise DataError(f"this is a folder, not {what}", where=str(path), hint=f"folder:{path}") from error
    except OSError as error:
        if error.errno is None:  # raised by decoders for bad content, not by the system
            raise _damaged(path, what, error) from error
        raise DataError("the file cannot be read", where=str(path), why=error.strerror or "") from error
    except damage as error:
        raise _damaged(path, what, error) from error


def _damaged(path: Path, what: str, error: Exception) -> DataError:
    return DataError(
        f"not {what}, or a damaged one",
        where=str(path),
        why=str(error) or type(error).__name__,
        hint="copy or download the file again",
    )


def declared_bytes(shape: Sequence[int], itemsize: int, where: str) -> int:
    """The number of bytes that a header declares.

    Raises:
        DataError: if it is more than :data:`MAX_BYTES`.
    """
    size = math.prod(shape) * itemsize
    if size > MAX_BYTES:
        raise DataError(
            f"the header declares {size / 2**30:,.1f} GiB, more than the limit of {MAX_BYTES // 2**30} GiB",
            where=where,
            why=f"shape {by(shape)}, {itemsize} bytes each",
            hint="if that is true, save a part of the set, or use folder:DIR, which is read image by image",
        )
    return size


def check_finite(values: npt.NDArray[np.generic], where: str) -> None:
    """Refuse images with NaN or infinity in them.

    Raises:
        DataError: naming the first such image.
    """
    if values.dtype.kind != "f":
        return
    for index, image in enumerate(values):
        if not np.isfinite(image).all():
            raise DataError(
                f"image {index} holds NaN or infinity",
                where=where,
                hint="repair it (numpy.nan_to_num) or leave it out",
            )


def by(shape: Sequence[int]) -> str:
    """A shape as text: (1, 28, 28) is "1x28x28"."""
    return "x".join(map(str, shape))
