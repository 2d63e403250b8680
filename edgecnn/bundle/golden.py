"""Golden vectors: inputs and what the reference answers, so that a device can check itself without torch or data.

The file is an ordinary ``.npz`` (``numpy.load`` reads it): ``input/NAME``, ``output/PRECISION/NAME`` and ``labels``.
Every array is (samples, ...) in the model's own axes (NCHW), little-endian and in C order.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.bundle.manifest import check_tag, check_text
from edgecnn.errors import BundleError

Array = npt.NDArray[Any]

GOLDEN_FILE = "golden.npz"
REFERENCE = "fp32"
"""The output group that holds the answers of the torch module itself."""
MAX_GOLDEN_BYTES = 1 << 30
"""Bound on a file's arrays together, in bytes. It is checked on their declared sizes, before any is decompressed."""

_MAX_MEMBERS = 4096
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
# The one header that this module writes. It is matched and never evaluated, as numpy's own reader would do.
_HEADER = re.compile(
    rb"\{'descr': '(\|b1|\|[iu]1|<[iu][248]|<f[248])', 'fortran_order': False, "
    rb"'shape': \((\d{1,10},|\d{1,10}(?:, \d{1,10}){1,7})\), \} *\n"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Inputs and expected outputs, sample by sample.

    Attributes:
        inputs: By name, each (samples, ...).
        outputs: By precision and name, each (samples, ...). ``outputs["fp32"]`` is the reference's and always there.
        labels: The true classes, (samples,) int64, where they are known.

    Raises:
        BundleError: if names, sample counts or dtypes do not fit together.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Mapping[str, Array]]
    labels: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs.get(REFERENCE):
            raise BundleError("golden vectors need an input and the reference's outputs")
        for precision in self.outputs:
            check_tag("precision", precision)
        for key, array in _members(self):
            check_text("name of a golden array", key)
            _check_array(key, array)
            if len(array) != self.samples:
                raise BundleError(f"{key} has {len(array)} golden samples, and the first input has {self.samples}")
        if self.labels is not None and (self.labels.dtype != np.int64 or self.labels.ndim != 1):
            raise BundleError(f"golden labels are {self.labels.dtype} of rank {self.labels.ndim}, not int64 of rank 1")
        total = sum(array.nbytes for _, array in _members(self))
        if total > MAX_GOLDEN_BYTES:
            raise BundleError(
                f"the golden vectors have {total:,} bytes, and the limit is {MAX_GOLDEN_BYTES:,}",
                hint="fewer golden samples",
            )

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))


def encode_golden(golden: Golden) -> bytes:
    """The golden vectors as a compressed ``.npz``.

    Equal arrays give equal bytes: members are sorted, their time is 1980-01-01, nothing of the system is recorded.
    (Between machines this holds as far as their zlib compresses alike.)
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, array in sorted(_members(golden), key=lambda member: member[0]):
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, whatever this system is
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, _encode_array(array), compresslevel=6)
    return buffer.getvalue()


def decode_golden(data: bytes, *, where: str = "") -> Golden:
    """Read golden vectors that :func:`encode_golden` wrote. Nothing is unpickled; memory stays within stated bounds.

    Args:
        data: The file's bytes.
        where: The file's name, for messages.

    Raises:
        BundleError: if the file is damaged, holds anything else, or declares more than ``MAX_GOLDEN_BYTES``.
    """
    try:
        return _group(_decode_members(data))
    except BundleError as err:
        err.where = err.where or where
        raise
    except _DAMAGED as err:
        raise BundleError(
            "the golden vectors are damaged", where=where, why=str(err), hint="export the model again"
        ) from err


def _members(golden: Golden) -> Iterator[tuple[str, Array]]:
    for name, array in golden.inputs.items():
        yield f"input/{name}", array
    for precision, group in golden.outputs.items():
        for name, array in group.items():
            yield f"output/{precision}/{name}", array
    if golden.labels is not None:
        yield "labels", golden.labels


def _check_array(key: str, array: Array) -> None:
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise BundleError(f"golden {key} is of dtype {array.dtype}", why="only numbers of up to 64 bits are kept")
    if not 1 <= array.ndim <= 8 or array.size == 0:
        raise BundleError(f"golden {key} has shape {array.shape}", why="rank 1 to 8 and at least one value are needed")


def _encode_array(array: Array) -> bytes:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, plain, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _decode_members(data: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        _check_declared(members)
        arrays: dict[str, Array] = {}
        for info in members:
            key = info.filename.removesuffix(".npy")
            if key in arrays:
                raise BundleError(f"the golden vectors hold {key[:80]!r} twice")
            with archive.open(info) as member:
                arrays[key] = _decode_array(key, member.read(info.file_size + 1))
    return arrays


def _check_declared(members: list[zipfile.ZipInfo]) -> None:
    declared = sum(info.file_size for info in members)
    # Each array is preceded by a header, which the limit on arrays does not count.
    if len(members) > _MAX_MEMBERS or declared > MAX_GOLDEN_BYTES + (len(members) << 10):
        raise BundleError(
            f"the golden vectors declare {len(members):,} arrays and {declared:,} bytes",
            why=f"the limits are {_MAX_MEMBERS:,} and {MAX_GOLDEN_BYTES:,}",
        )
    for info in members:
        plain = info.filename == info.orig_filename and info.filename.endswith(".npy")
        if not plain or info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(
                f"the golden vectors hold {info.orig_filename[:80]!r}",
                why="encrypted, not an array, or compressed by a method that is not used here",
            )


def _decode_array(key: str, data: bytes) -> Array:
    if not data.startswith(_MAGIC):
        raise BundleError(f"golden {key[:80]!r} is not an array of npy format 1.0")
    start = len(_MAGIC) + 2
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    header = _HEADER.fullmatch(data, start, min(end, len(data)))
    if header is None:
        raise BundleError(f"golden {key[:80]!r} has a header of no plain array of numbers in C order")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[2].split(b",") if size)
    if math.prod(shape) * dtype.itemsize != len(data) - end:
        raise BundleError(f"golden {key[:80]!r} has {len(data) - end:,} bytes, which are not {shape} of {dtype}")
    return np.frombuffer(data, dtype, offset=end).reshape(shape).copy()


def _group(arrays: Mapping[str, Array]) -> Golden:
    inputs: dict[str, Array] = {}
    outputs: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        match key.split("/", 1):
            case ["input", name] if name:
                inputs[name] = array
            case ["output", rest] if all(rest.partition("/")):
                precision, _, name = rest.partition("/")
                outputs.setdefault(precision, {})[name] = array
            case ["labels"]:
                pass
            case _:
                raise BundleError(f"the golden vectors hold {key[:80]!r}, which means nothing here")
    return Golden(inputs=inputs, outputs=outputs, labels=arrays.get("labels"))
