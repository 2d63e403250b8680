"""Fixed filters: convolutions with well-known kernels, as in introductory courses.

They are ordinary modules: ``edgecnn export edgecnn.models.fixed_filters:Filter --arg kernel=sobel_x --input-shape
1x64x64`` exports one, and ``edgecnn filter`` runs one on an image.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models.checked_arguments import positive

PADDINGS = ("zeros", "replicate", "reflect")
"""How the image continues beyond its edges: zeros, the edge pixels, or the mirror image without the edge pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel in the orientation in which it is applied: torch's Conv2d does not flip it.

    Attributes:
        rows: The weights as whole numbers, row by row.
        divisor: The divisor of the weights.
        summary: Its effect, in a few words.
    """

    rows: tuple[tuple[int, ...], ...]
    divisor: int
    summary: str

    @property
    def total(self) -> float:
        """The factor for a uniform area: 1 preserves its brightness, 0 gives 0."""
        return sum(map(sum, self.rows)) / self.divisor

    @property
    def reach(self) -> float:
        """The largest magnitude of the result for an image with values from 0 to 1."""
        values = [v for row in self.rows for v in row]
        return max(sum(v for v in values if v > 0), -sum(v for v in values if v < 0)) / self.divisor


def _kernel(rows: str, divisor: int, summary: str) -> Kernel:
    return Kernel(rows=tuple(tuple(map(int, r.split())) for r in rows.split(",")), divisor=divisor, summary=summary)


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "identity": _kernel("0 0 0, 0 1 0, 0 0 0", 1, "the image as it is"),
        "box_blur": _kernel("1 1 1, 1 1 1, 1 1 1", 9, "the mean of 3x3 pixels"),
        "gaussian": _kernel(
            "1 4 6 4 1, 4 16 24 16 4, 6 24 36 24 6, 4 16 24 16 4, 1 4 6 4 1", 256, "a binomial mean of 5x5 pixels"
        ),
        "sharpen": _kernel("0 -1 0, -1 5 -1, 0 -1 0", 1, "the image and its difference from its neighbours"),
        "sobel_x": _kernel("-1 0 1, -2 0 2, -1 0 1", 1, "brighter to the right: positive; to the left: negative"),
        "sobel_y": _kernel("-1 -2 -1, 0 0 0, 1 2 1", 1, "brighter below: positive; above: negative"),
        "laplacian": _kernel("0 1 0, 1 -4 1, 0 1 0", 1, "darker than its neighbours: positive; brighter: negative"),
        "emboss": _kernel("-2 -1 0, -1 1 1, 0 1 2", 1, "a relief, lit from below right"),
    }
)
"""Every kernel, by name."""


class Filter(nn.Conv2d):
    """One kernel applied to each channel separately; the result has the image's size.

    It is a depthwise convolution without bias, whose weight is not trained.

    Args:
        kernel: One of :data:`KERNELS`.
        channels: Channels of the image.
        padding: One of :data:`PADDINGS`.

    Raises:
        ModelError: if there is no such kernel or padding.
    """

    def __init__(
        self,
        kernel: str = "sobel_x",
        channels: int = 1,
        padding: str = "zeros",
    ) -> None:
        positive("filter", channels=channels)
        if kernel not in KERNELS:
            near = difflib.get_close_matches(str(kernel), KERNELS, n=1)
            hint = (f"{near[0]}? " if near else "") + f"there are {', '.join(KERNELS)}"
            raise ModelError(f"there is no kernel {kernel!r}", hint=hint)
        if padding not in PADDINGS:
            raise ModelError(f"there is no padding {padding!r}", hint=" or ".join(PADDINGS))
        rows = torch.tensor(KERNELS[kernel].rows, dtype=torch.float32) / KERNELS[kernel].divisor
        size = len(rows)
        mode: Any = padding  # one of the words that Conv2d knows
        super().__init__(channels, channels, size, padding=size // 2, groups=channels, bias=False, padding_mode=mode)
        self.weight = nn.Parameter(rows.expand(channels, 1, size, size).clone(), requires_grad=False)
