"""Golden inputs, which are stored in a bundle, and calibration data, which is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.errors import DataError, UsageError
from edgecnn.types import FloatArray

GOLDEN = 32
"""How many golden inputs a bundle has."""
BATCH = 32
SEED = 0
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Input arrays, one (samples, ...) per model input, their origin in words, and their labels if known."""

    inputs: tuple[FloatArray, ...]
    origin: str
    labels: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.inputs[0])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The data from which int8 ranges are taken.

    Attributes:
        batches: Returns an iterator over batches, each with one array (samples, ...) per input.
        samples: The number of samples in all batches.
        origin: Where the samples come from, in words.
        golden: The golden inputs for the bundle.
    """

    batches: Callable[[], Iterator[Sequence[FloatArray]]]
    samples: int
    origin: str
    golden: Samples


def random_samples(shapes: Sequence[tuple[int, ...]], count: int = GOLDEN) -> Samples:
    """Seeded samples from the standard normal distribution, for inputs of shapes (1, ...)."""
    rng = np.random.default_rng(SEED)
    inputs = tuple(rng.standard_normal((count, *s[1:]), dtype=np.float32) for s in shapes)
    return Samples(inputs=inputs, origin=f"random normal, seed {SEED}")


def read_calibration(given: Any, shapes: Sequence[tuple[int, ...]], count: int) -> Calibration:
    """Calibration from data in any form that a user may have.

    Args:
        given: An array or tensor (samples, ...) for a model of one input, from which evenly spread samples are taken.
            Or an iterable of batches, each an array or, for several inputs, a tuple of arrays, from which the first
            samples are taken. Or the word ``random`` for seeded random inputs, whose ranges say little about real ones.
        shapes: The shapes of the inputs, (1, ...).
        count: Most samples to take.

    Raises:
        DataError: if the data is empty, does not fit the model's inputs, or holds NaN or infinities.
        UsageError: if it is another word, or the count is less than 1.
    """
    if count < 1:
        raise UsageError(f"{count} calibration samples are not possible", hint="256 or so")
    if isinstance(given, str):
        if given != RANDOM:
            raise UsageError(f"calibration {given!r} is not known", hint=f"data, or {RANDOM!r}")
        samples = random_samples(shapes, count)
        return of_samples(samples.inputs, samples.origin)
    arrays = _spread(_array(given), count) if hasattr(given, "shape") else _first_of(given, count)
    _check(arrays, shapes)
    return of_samples(tuple(arrays), "calibration data")


def of_samples(inputs: tuple[FloatArray, ...], origin: str) -> Calibration:
    """Calibration from samples in memory; evenly spread samples become the golden inputs."""
    total = len(inputs[0])

    def batches() -> Iterator[Sequence[FloatArray]]:
        return ([a[i : i + BATCH] for a in inputs] for i in range(0, total, BATCH))

    places = np.linspace(0, total - 1, min(GOLDEN, total)).round().astype(int)
    golden = Samples(inputs=tuple(a[places] for a in inputs), origin=origin)
    return Calibration(batches=batches, samples=total, origin=origin, golden=golden)


def _spread(array: FloatArray, count: int) -> list[FloatArray]:
    if not array.ndim or not len(array):
        return []
    return [array[np.linspace(0, len(array) - 1, min(count, len(array))).round().astype(int)]]


def _check(arrays: Sequence[FloatArray], shapes: Sequence[tuple[int, ...]]) -> None:
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


def _first_of(batches: Iterable[Any], count: int) -> list[FloatArray]:
    parts: list[list[FloatArray]] = []
    have = 0
    for batch in batches:
        arrays = [_array(a) for a in (batch if isinstance(batch, tuple | list) else (batch,))]
        if parts and len(arrays) != len(parts[0]):
            raise DataError(f"a calibration batch has {len(arrays)} inputs, the one before {len(parts[0])}")
        if len({len(a) for a in arrays}) != 1:
            raise DataError(f"a calibration batch has inputs of {[len(a) for a in arrays]} samples")
        parts.append(arrays)
        have += len(arrays[0])
        if have >= count:
            break
    return [np.concatenate(columns)[:count] for columns in zip(*parts, strict=True)]


def _array(value: Any) -> FloatArray:
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise DataError(f"calibration data is {array.dtype}, the model takes float32", **_advice(array))
    return np.ascontiguousarray(array, dtype=np.float32)


def _advice(array: npt.NDArray[Any]) -> dict[str, str]:
    """The reason and the hint for calibration data of integers."""
    if array.dtype != np.uint8:
        return {"hint": "floats as the model sees them, such as data.astype(numpy.float32)"}
    return {
        "why": "these look like the bytes of an image, but the model takes scaled and normalised floats",
        "hint": "the result of the model's preprocessing, such as Preprocessing(scale=1 / 255, ...).apply(data);"
        " data.astype(numpy.float32) if the model takes the bytes as they are",
    }
