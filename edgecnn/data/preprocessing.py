"""The transformation from raw images to inputs of a model."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgecnn.errors import DataError


class Resize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A resize of every image to one size, by the Pillow filter named ``method``."""

    source: tuple[int, int] | None
    """Height and width before, or None if the images differ in size."""
    size: tuple[int, int]
    """Height and width after."""
    method: str = "bilinear"


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``x = (resize(raw) * scale - mean) / std``, per channel.

    Attributes:
        scale: Factor for raw values, such as 1/255 to bring bytes to 0..1.
        mean: Subtracted after scaling; one value for all channels or one per channel.
        std: Divided by after that; one value for all channels or one per channel, never 0.
        resize: The resize before scaling, if any.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Resize | None = None

    def __post_init__(self) -> None:
        if not np.isfinite([self.scale, *self.mean, *self.std]).all() or self.scale == 0 or 0 in self.std:
            raise DataError(
                f"preprocessing with scale {self.scale}, mean {self.mean}, std {self.std} is not possible",
                why="all of them must be finite, and neither scale nor std may be 0",
            )

    def apply(self, raw: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Inputs of the model, float32, from resized raw images of shape (N, C, H, W).

        Raises:
            DataError: if mean or std have neither one value nor one per channel.
        """
        channels = raw.shape[1]
        mean, std = (_per_channel(name, v, channels) for name, v in (("mean", self.mean), ("std", self.std)))
        scaled = raw.astype(np.float32) * np.float32(self.scale)
        return np.asarray((scaled - mean) / std, dtype=np.float32)

    def undo(self, inputs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The raw values, rounded to whole numbers, of inputs (N, C, H, W) that :meth:`apply` returned."""
        channels = inputs.shape[1]
        mean, std = (_per_channel(name, v, channels) for name, v in (("mean", self.mean), ("std", self.std)))
        raw: npt.NDArray[np.float64] = np.rint((inputs.astype(np.float64) * std + mean) / self.scale)
        return raw


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> npt.NDArray[np.float32]:
    if len(values) not in (1, channels):
        raise DataError(
            f"{name} has {len(values)} values for images of {channels} channel{'s' * (channels != 1)}",
            hint=f"give --{name} one value, or one per channel",
        )
    return np.asarray(values, dtype=np.float32).reshape(1, -1, 1, 1)
