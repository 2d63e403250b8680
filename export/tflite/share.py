"""A flatbuffer in which equal vectors and strings are stored once."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt


class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that stores equal vectors and strings of several tables once: shapes, scales, zero points, names.

    A per-channel int8 tensor has as many zero points, 8 bytes each and all 0, as it has channels, and its bias has them
    again. LiteRT and tflite-runtime refuse fewer, and XNNPACK refuses a bias without its table, but one copy serves all
    tensors with that number of channels. A flatbuffer may be any graph without cycles, so readers see no difference.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._vectors: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: npt.NDArray[np.generic]) -> int:  # noqa: N802  (the builder's name)
        """Write a vector, or give the place of an equal one."""
        key = (x.dtype.str, x.tobytes())
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]

    def CreateString(self, s: str | bytes, *encoding: Any) -> int:  # noqa: N802
        """Write a string, or give the place of an equal one."""
        text = s.encode(*encoding) if isinstance(s, str) else s
        key = ("string", text)
        if key not in self._vectors:
            self._vectors[key] = super().CreateString(text)
        return self._vectors[key]
