"""Read MNIST's own format: ``idx:IMAGES,LABELS``, gzipped or not.

A file has two zero bytes, a byte for the type, a byte for the number of axes, the length of each axis as a big-endian
32-bit number, and then the values, also big-endian. http://yann.lecun.com/exdb/mnist
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from edgecnn.data.arrays import raw_set
from edgecnn.data.raw import RawSet, Shape, by, declared_bytes, reading
from edgecnn.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"


def read_idx(images: Path, labels: Path | None, wanted: Shape | None) -> RawSet:
    """The images of an IDX file, and the labels of another one, if given.

    Raises:
        DataError: if a file is not IDX, or shorter or longer than it declares, or the images do not fit ``wanted``.
    """
    return raw_set(
        images.name,
        read_array(images),
        None if labels is None else read_array(labels),
        wanted,
        where=str(images),
    )


def read_array(path: Path) -> npt.NDArray[np.generic]:
    """The array in an IDX file, still big-endian.

    Raises:
        DataError: if it is not an IDX file, declares more than 4 GiB, or holds less or more than it declares.
    """
    with reading(path, "a gzipped IDX file", EOFError, zlib.error), path.open("rb") as file:
        zipped = file.read(2) == _GZIP
        file.seek(0)
        if not zipped:
            return _decode(file, path)
        with gzip.GzipFile(fileobj=file) as stream:
            return _decode(stream, path)


def _decode(stream: IO[bytes] | gzip.GzipFile, path: Path) -> npt.NDArray[np.generic]:
    shape, dtype = _header(stream, path)
    size = declared_bytes(shape, dtype.itemsize, str(path))
    data = stream.read(size)
    if len(data) < size or stream.read(1):
        raise DataError(
            f"the file is cut off: {len(data):,} of {size:,} bytes" if len(data) < size else "the file is too long",
            where=str(path),
            why=f"its header declares {by(shape)} values of {dtype.itemsize} bytes",
            hint="copy or download the file again",
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _header(stream: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 4:
        raise DataError(
            "this is not an IDX file",
            where=str(path),
            why=f"it begins with {magic.hex(' ') or 'nothing'}; MNIST's images begin with 00 00 08 03",
            hint="idx:IMAGES,LABELS takes files like train-images-idx3-ubyte.gz; for others see npz: and folder:",
        )
    lengths = stream.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise DataError("the file is cut off within its header", where=str(path))
    return struct.unpack(f">{magic[3]}I", lengths), np.dtype(_TYPES[magic[2]])
