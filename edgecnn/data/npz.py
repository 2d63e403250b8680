"""Read NumPy archives: ``npz:FILE``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from edgecnn.data.arrays import raw_set
from edgecnn.data.raw import RawSet, Shape, declared_bytes, reading
from edgecnn.errors import DataError

_IMAGES = ("x", "images", "inputs")
_LABELS = ("y", "labels", "targets")
_NAMES = ("class_names", "classes")

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, wanted: Shape | None, *, title: str = "", scale: float | None = None) -> RawSet:
    """The images and labels of a NumPy archive.

    Images are the array ``x``, ``images`` or ``inputs``, or the only array. Labels, which are optional, are ``y``,
    ``labels`` or ``targets``; names of the classes, also optional, are ``class_names`` or ``classes``. Pickled objects
    are never loaded, and the size in each header is checked before any data is read.

    Raises:
        DataError: if the file is not such an archive, or its images do not fit ``wanted``.
    """
    with reading(path, "a NumPy archive (npz)", *_DAMAGE), zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        images = _read_array(archive, _image_key(keys, path), path)
        labels, names = (_read_optional(archive, keys, wanted_keys, path) for wanted_keys in (_LABELS, _NAMES))
    return raw_set(
        title or path.name,
        images,
        labels,
        wanted,
        class_names=() if names is None else _texts(names, path),
        scale=scale,
        where=str(path),
    )


def read_npy(path: Path, wanted: Shape) -> RawSet:
    """The images of an ``.npy`` file: one (H, W), (C, H, W) or (H, W, C), or several along a first axis.

    Raises:
        DataError: if the file is not such an array, or does not fit ``wanted``.
    """
    with reading(path, "a NumPy array (npy)", *_DAMAGE), path.open("rb") as stream:
        _check_header(stream, path.stat().st_size, str(path))
        stream.seek(0)
        images: npt.NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    if images.ndim == 2 or (images.ndim == 3 and wanted[0] != 1):
        images = images[np.newaxis]
    return raw_set(path.name, images, None, wanted, where=str(path))


def _image_key(keys: Sequence[str], path: Path) -> str:
    found = [key for key in _IMAGES if key in keys] or (list(keys) if len(keys) == 1 else [])
    if len(found) == 1:
        return found[0]
    raise DataError(
        f"it is not clear which array holds the images; the file has {', '.join(keys) or 'none'}",
        where=str(path),
        hint="name them x and y: numpy.savez_compressed('set.npz', x=images, y=labels)",
    )


def _read_optional(
    archive: zipfile.ZipFile, keys: Sequence[str], accepted: Sequence[str], path: Path
) -> npt.NDArray[np.generic] | None:
    found = [key for key in accepted if key in keys]
    if len(found) > 1:
        raise DataError(f"{' and '.join(found)} mean the same", where=str(path), hint=f"keep {found[0]} only")
    return _read_array(archive, found[0], path) if found and len(keys) > 1 else None


def _read_array(archive: zipfile.ZipFile, key: str, path: Path) -> npt.NDArray[np.generic]:
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as stream:
        _check_header(stream, info.file_size, f"{path}, array {key}")
        stream.seek(0)
        array: npt.NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_header(stream: IO[bytes], size: int, where: str) -> None:
    """Refuse an array whose header does not match the archive, or that must not be read."""
    read_header = _HEADERS.get(np.lib.format.read_magic(stream))
    if read_header is None:
        raise DataError("an array with named fields is not a set of images", where=where)
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(
            "the array holds Python objects, which would have to be unpickled",
            where=where,
            why="unpickling runs code from the file",
            hint="save numbers: x.astype('float32'); images of different sizes go into folder:DIR",
        )
    declared = declared_bytes(shape, dtype.itemsize, where)
    if declared != size - stream.tell():
        raise DataError(
            f"the array's header declares {declared:,} bytes, the archive holds {size - stream.tell():,}",
            where=where,
            hint="copy or download the file again",
        )


def _texts(names: npt.NDArray[np.generic], path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"class names of type {names.dtype} are not a list of texts", where=str(path))
    return tuple(map(str, names.tolist()))
