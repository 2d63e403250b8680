"""Arrays on disk, for data that exceeds memory and is read several times."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from edgecnn.errors import DataError
from edgecnn.types import Array


class DiskArrays:
    """Growing arrays in temporary files, which have no name and disappear with the process."""

    def __init__(self) -> None:
        self._files: list[BinaryIO] = []
        self._rows: list[tuple[np.dtype[Any], tuple[int, ...]]] = []

    def append(self, arrays: Sequence[Array]) -> None:
        """Add rows to each array.

        Raises:
            DataError: if the disk is full.
        """
        try:
            if not self._files:
                self._files = [tempfile.TemporaryFile() for _ in arrays]  # noqa: SIM115  (they live as long as this object)
                self._rows = [(a.dtype, a.shape[1:]) for a in arrays]
            for file, array in zip(self._files, arrays, strict=True):
                file.write(np.ascontiguousarray(array).data)
                file.flush()
        except OSError as error:
            raise DataError(
                "the reference's outputs cannot be written to a temporary file",
                where=tempfile.gettempdir(),
                why=error.strerror or str(error),
                hint="TMPDIR=/another/folder, or less data",
            ) from error

    def read(self, start: int, stop: int) -> list[Array]:
        """Rows ``start`` to ``stop - 1`` of each array."""
        return [self._read(file, row, start, stop) for file, row in zip(self._files, self._rows, strict=True)]

    def close(self) -> None:
        """Close and thereby delete the files."""
        for file in self._files:
            file.close()

    @staticmethod
    def _read(file: BinaryIO, row: tuple[np.dtype[Any], tuple[int, ...]], start: int, stop: int) -> Array:
        dtype, shape = row
        size = dtype.itemsize * int(np.prod(shape))
        data = bytearray(size * (stop - start))
        view, place = memoryview(data), size * start
        while view:
            count = os.preadv(file.fileno(), [view], place)
            if not count:
                raise OSError("a temporary file is shorter than what was written to it")
            view, place = view[count:], place + count
        return np.frombuffer(data, dtype).reshape(stop - start, *shape)
