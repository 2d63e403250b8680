"""The real values that stored numbers of an input or output stand for, and how real values are stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecnn.errors import UsageError
from edgecnn.export.file_facts import Affine
from edgecnn.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The type of a value in a file, and for integers that stand for real values their parameters."""

    dtype: str
    affine: Affine | None = None

    @property
    def is_float(self) -> bool:
        """Whether real values are stored as they are."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def is_real(self) -> bool:
        """Whether it stands for real values: floats, or integers with parameters."""
        return self.is_float or self.affine is not None

    @property
    def words(self) -> str:
        """The type and parameters, for messages."""
        if self.affine is None:
            return self.dtype
        return f"{self.dtype} (scale {self.affine.scale:.6g}, zero point {self.affine.zero_point:.6g})"

    def limits(self) -> tuple[float, float] | None:
        """The smallest and the largest value that can be stored; None for floats."""
        if self.is_float:
            return None
        kind = np.dtype(self.dtype)
        low, high = (0, 1) if kind == np.bool_ else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
        if self.affine is None:
            return low, high
        scale, zero_point = self.affine.scale, self.affine.zero_point
        return scale * (low - zero_point), scale * (high - zero_point)

    def stored(self, values: Array) -> Array:
        """Values as the file takes them; real ones are rounded half to even, and clipped to what can be stored."""
        if self.is_float or self.affine is None:
            return values.astype(self.dtype)
        steps = np.rint(values.astype(np.float64) / self.affine.scale + self.affine.zero_point)
        info = np.iinfo(self.dtype)
        stored: Array = np.clip(np.nan_to_num(steps), info.min, info.max).astype(self.dtype)
        return stored

    def real(self, stored: Array) -> Array:
        """The real values of stored numbers, as float64 where they are quantized."""
        if self.affine is None:
            return stored
        return (stored.astype(np.float64) - self.affine.zero_point) * self.affine.scale


def check_compatible(a: Numbers, b: Numbers, names: tuple[str, str], what: str) -> None:
    """Refuse two representations of one value that cannot be brought together.

    Raises:
        UsageError: naming the option that settles it.
    """
    if not a.is_real and not b.is_real and {a.dtype, b.dtype} == {"int8", "uint8"}:
        raise UsageError(
            f"{what} {names[0]!r} is {a.dtype} in A and {b.dtype} in B, both without parameters",
            why="the same byte may stand for the same number, or for one that is 128 more",
            hint=f"--quantization-a {names[0]}=1,0 --quantization-b {names[1]}=1,{128 if b.dtype == 'uint8' else -128}"
            f" for the latter, 1,0 in both for the former",
        )
    if a.is_real == b.is_real:
        return
    side, numbers, name, other = ("b", b, names[1], a) if a.is_real else ("a", a, names[0], b)
    raise UsageError(
        f"{what} {name!r} of {side.upper()} is {numbers.dtype} without parameters, in the other file it is"
        f" {other.words}",
        why="which real values its integers stand for is not known",
        hint=f"--quantization-{side} {name}=SCALE,ZERO_POINT, such as {name}=0.00392157,0 for bytes of 0 to 1",
    )
