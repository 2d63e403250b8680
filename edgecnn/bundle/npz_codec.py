"""A reproducible ``.npz`` writer, and a reader for untrusted files.

`numpy.load` can read the files, too. Arrays are little-endian and in C order; nothing is ever pickled or evaluated.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgecnn.errors import BundleError
from edgecnn.types import Array

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_MAGIC = b"\x93NUMPY\x01\x00"
# The one header that this module writes. It is matched, never evaluated as numpy's own reader does.
_HEADER = re.compile(
    rb"\{'descr': '(\|b1|\|[iu]1|<[iu][248]|<f[248])', 'fortran_order': False, "
    rb"'shape': \((|\d{1,10},|\d{1,10}(?:, \d{1,10}){1,7})\), \} *\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file: its name in messages, and its bounds.

    Attributes:
        whole: Name of the file's content in messages, in the plural.
        part: Prefix of an array's name in messages.
        max_bytes: Largest total size of all arrays, checked on declared sizes before decompression.
        max_members: Largest number of arrays.
    """

    whole: str
    part: str
    max_bytes: int
    max_members: int


def encode_npz(arrays: Iterable[tuple[str, Array]]) -> bytes:
    """Encode arrays by name as a compressed ``.npz``.

    Equal arrays give equal bytes: members are sorted, their time is 1980-01-01, and nothing about the system is
    recorded. (On different machines the bytes are equal if their zlib versions compress identically.)
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, array in sorted(arrays, key=lambda member: member[0]):
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, whatever this system is
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, _encode_array(array), compresslevel=6)
    return buffer.getvalue()


def decode_npz(data: bytes, kind: Kind, *, where: str = "") -> dict[str, Array]:
    """Decode arrays from :func:`encode_npz`. Nothing is unpickled, and memory stays within the kind's bounds.

    Args:
        data: The file's bytes.
        kind: The kind of file.
        where: The file's name, for messages.

    Raises:
        BundleError: if the file is damaged, holds anything except plain arrays, or exceeds the bounds.
    """
    try:
        return _decode_members(data, kind)
    except BundleError as err:
        err.where = err.where or where
        raise
    except _DAMAGED as err:
        raise BundleError(
            f"{kind.whole} are damaged", where=where, why=str(err), hint="export the model again"
        ) from err


def _encode_array(array: Array) -> bytes:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, plain, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _decode_members(data: bytes, kind: Kind) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        _check_declared(members, kind)
        arrays: dict[str, Array] = {}
        for info in members:
            key = info.filename.removesuffix(".npy")
            if key in arrays:
                raise BundleError(f"{kind.whole} hold {key[:80]!r} twice")
            with archive.open(info) as member:
                arrays[key] = _decode_array(f"{kind.part} {key[:80]!r}", member.read(info.file_size + 1))
    return arrays


def _check_declared(members: list[zipfile.ZipInfo], kind: Kind) -> None:
    declared = sum(info.file_size for info in members)
    # Each array has a header, which does not count towards the limit on arrays.
    if len(members) > kind.max_members or declared > kind.max_bytes + (len(members) << 10):
        raise BundleError(
            f"{kind.whole} declare {len(members):,} arrays and {declared:,} bytes",
            why=f"the limits are {kind.max_members:,} and {kind.max_bytes:,}",
        )
    for info in members:
        plain = info.filename == info.orig_filename and info.filename.endswith(".npy")
        if not plain or info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(
                f"{kind.whole} hold {info.orig_filename[:80]!r}",
                why="it is encrypted, not an array, or compressed by an unsupported method",
            )


def _decode_array(what: str, data: bytes) -> Array:
    if not data.startswith(_MAGIC):
        raise BundleError(f"{what} is not an array of npy format 1.0")
    start = len(_MAGIC) + 2
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    header = _HEADER.fullmatch(data, start, min(end, len(data)))
    if header is None:
        raise BundleError(f"{what} is not a plain array of numbers in C order, by its header")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[2].split(b",") if size)
    if math.prod(shape) * dtype.itemsize != len(data) - end:
        raise BundleError(f"{what} has {len(data) - end:,} bytes, which do not match {shape} of {dtype}")
    return np.frombuffer(data, dtype, offset=end).reshape(shape).copy()
