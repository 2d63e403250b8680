"""The golden inputs: a few dozen samples that travel with a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.errors import DataError

COUNT = 32
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Input arrays, one per model input, each (samples, ...); their labels if known; where they come from, in words."""

    inputs: tuple[npt.NDArray[np.float32], ...]
    origin: str
    labels: npt.NDArray[np.int64] | None = None


def random_samples(shapes: Sequence[tuple[int, ...]]) -> Samples:
    """Seeded samples from the standard normal distribution, for inputs of shapes (1, ...)."""
    rng = np.random.default_rng(SEED)
    inputs = tuple(rng.standard_normal((COUNT, *s[1:]), dtype=np.float32) for s in shapes)
    return Samples(inputs=inputs, origin=f"random normal, seed {SEED}")


def calibration_samples(calibration: Any, shapes: Sequence[tuple[int, ...]]) -> Samples:
    """Samples from what a user calibrates with.

    Args:
        calibration: One array or tensor (samples, ...) for a model of one input: evenly spread samples are taken. Or an
            iterable of batches, each an array or, for several inputs, a tuple of arrays: the first samples are taken.
        shapes: The inputs' shapes, (1, ...).

    Raises:
        DataError: if it is empty, does not fit the model's inputs, or holds NaN or infinities.
    """
    if hasattr(calibration, "shape"):
        arrays = [_array(calibration)]
        count = min(COUNT, len(arrays[0])) if arrays[0].ndim else 0
        arrays = [a[np.linspace(0, len(a) - 1, count).round().astype(int)] for a in arrays] if count else []
    else:
        arrays = _first_of(calibration)
    if len(arrays) != len(shapes) or not all(len(a) for a in arrays):
        raise DataError(
            f"calibration data holds {len(arrays)} inputs with samples, the model takes {len(shapes)}",
            hint="an array (samples, ...), or batches as tuples with one array per input",
        )
    for array, shape in zip(arrays, shapes, strict=True):
        if array.shape[1:] != shape[1:]:
            raise DataError(
                f"calibration samples have the shape {array.shape[1:]}, the model takes {shape[1:]}",
                hint="samples as the model sees them, the batch as first axis",
            )
        if not np.isfinite(array).all():
            raise DataError("calibration data holds NaN or infinities", hint="clean data")
    return Samples(inputs=tuple(arrays), origin="calibration data")


def _first_of(batches: Iterable[Any]) -> list[npt.NDArray[np.float32]]:
    parts: list[list[npt.NDArray[np.float32]]] = []
    have = 0
    for batch in batches:
        arrays = [_array(a) for a in (batch if isinstance(batch, tuple | list) else (batch,))]
        if parts and len(arrays) != len(parts[0]):
            raise DataError(f"a calibration batch has {len(arrays)} inputs, the one before {len(parts[0])}")
        if len({len(a) for a in arrays}) != 1:
            raise DataError(f"a calibration batch has inputs of {[len(a) for a in arrays]} samples")
        parts.append(arrays)
        have += len(arrays[0])
        if have >= COUNT:
            break
    return [np.concatenate(columns)[:COUNT] for columns in zip(*parts, strict=True)]


def _array(value: Any) -> npt.NDArray[np.float32]:
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise DataError(f"calibration data is {array.dtype}", hint="numbers, as the model sees them")
    return np.ascontiguousarray(array, dtype=np.float32)
