"""Golden vectors: inputs and reference outputs, with which a device can check itself without torch or data.

The file is an ordinary ``.npz`` (``numpy.load`` reads it): ``input/NAME``, ``output/PRECISION/NAME`` and ``labels``.
Every array is (samples, ...) in the model's own axes (NCHW), little-endian and in C order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecnn.bundle.manifest import check_tag, check_text
from edgecnn.bundle.npz_codec import Kind, decode_npz, encode_npz
from edgecnn.errors import BundleError
from edgecnn.types import Array

GOLDEN_FILE = "golden.npz"
REFERENCE = "fp32"
"""The output group with the outputs of the torch module."""
MAX_GOLDEN_BYTES = 1 << 30
"""Largest total size of a file's arrays in bytes. It is checked on declared sizes, before decompression."""

_MAX_MEMBERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Inputs and expected outputs, sample by sample.

    Attributes:
        inputs: Arrays by name, each (samples, ...).
        outputs: Arrays by precision and name, each (samples, ...). ``outputs["fp32"]``, the reference, always exists.
        labels: True classes, (samples,) int64, if known.

    Raises:
        BundleError: if names, sample counts or dtypes do not fit together.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Mapping[str, Array]]
    labels: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs.get(REFERENCE):
            raise BundleError("golden vectors need an input and the outputs of the reference")
        for precision in self.outputs:
            check_tag("precision", precision)
        for key, array in _members(self):
            check_text("name of a golden array", key)
            _check_array(key, array)
            if len(array) != self.samples:
                raise BundleError(f"{key} has {len(array)} golden samples, but the first input has {self.samples}")
        if self.labels is not None and (self.labels.dtype != np.int64 or self.labels.ndim != 1):
            raise BundleError(f"golden labels are {self.labels.dtype} of rank {self.labels.ndim}, not int64 of rank 1")
        total = sum(array.nbytes for _, array in _members(self))
        if total > MAX_GOLDEN_BYTES:
            raise BundleError(
                f"the golden vectors have {total:,} bytes, but the limit is {MAX_GOLDEN_BYTES:,}",
                hint="fewer golden samples",
            )

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))


def encode_golden(golden: Golden) -> bytes:
    """Encode golden vectors as a compressed ``.npz``; equal arrays give equal bytes."""
    return encode_npz(_members(golden))


def decode_golden(data: bytes, *, where: str = "") -> Golden:
    """Decode golden vectors from :func:`encode_golden`. Nothing is unpickled, and memory is bounded.

    Args:
        data: The file's bytes.
        where: The file's name, for messages.

    Raises:
        BundleError: if the file is damaged, holds other data, or declares more than ``MAX_GOLDEN_BYTES``.
    """
    kind = Kind(whole="the golden vectors", part="golden", max_bytes=MAX_GOLDEN_BYTES, max_members=_MAX_MEMBERS)
    arrays = decode_npz(data, kind, where=where)
    try:
        return _group(arrays)
    except BundleError as err:
        err.where = err.where or where
        raise


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
        raise BundleError(f"golden {key} is of dtype {array.dtype}", why="only numbers of up to 64 bits are supported")
    if not 1 <= array.ndim <= 8 or array.size == 0:
        raise BundleError(f"golden {key} has shape {array.shape}", why="rank 1 to 8 and at least one value are needed")


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
                raise BundleError(f"the golden vectors hold an unexpected array {key[:80]!r}")
    return Golden(inputs=inputs, outputs=outputs, labels=arrays.get("labels"))
