"""What is done to a raw image before the model sees it."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgecnn.errors import DataError


class Resize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A resize of every image from one size to another, by Pillow's filter of that name."""

    source: tuple[int, int] | None
    """Height and width before, or None when the images differ among themselves."""
    size: tuple[int, int]
    """Height and width after."""
    method: str = "bilinear"


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``x = (resize(raw) * scale - mean) / std``, per channel.

    Attributes:
        scale: Multiplied with the raw value (1/255 for bytes that are to lie in 0..1).
        mean: Subtracted, one value for all channels or one per channel.
        std: Divided by, one value for all channels or one per channel; never 0.
        resize: The resize that came before, if any.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Resize | None = None

    def __post_init__(self) -> None:
        if not np.isfinite([self.scale, *self.mean, *self.std]).all() or self.scale == 0 or 0 in self.std:
            raise DataError(
                f"preprocessing with scale {self.scale}, mean {self.mean}, std {self.std} has no meaning",
                why="all of them must be finite, and neither scale nor std may be 0",
            )

    def apply(self, raw: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Scale and normalise raw images of shape (N, C, H, W), already resized, to float32.

        Raises:
            DataError: if mean or std have neither one value nor one per channel.
        """
        channels = raw.shape[1]
        mean, std = (_per_channel(name, v, channels) for name, v in (("mean", self.mean), ("std", self.std)))
        scaled = raw.astype(np.float32) * np.float32(self.scale)
        return np.asarray((scaled - mean) / std, dtype=np.float32)

    def undo(self, inputs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The raw values, as whole numbers, of inputs (N, C, H, W) that :meth:`apply` made."""
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
