"""Shapes, and the arithmetic of convolution and pooling windows."""

from __future__ import annotations

from typing import NamedTuple

Shape = tuple[int, ...]


class Padding(NamedTuple):
    """Rows and columns added around an image."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @property
    def rows(self) -> tuple[int, int]:
        """Rows added before and after."""
        return self.top, self.bottom

    @property
    def columns(self) -> tuple[int, int]:
        """Columns added before and after."""
        return self.left, self.right


def window_extent(kernel: int, dilation: int) -> int:
    """Number of cells from the first to the last that a window covers."""
    return (kernel - 1) * dilation + 1


def window_count(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]) -> int:
    """Number of whole windows along an axis. It may be 0 or negative, which callers must refuse.

    The formula of ``torch.nn.Conv2d``: ``floor((size + before + after - extent) / stride) + 1``.
    """
    return (size + sum(padding) - window_extent(kernel, dilation)) // stride + 1


def padding_used(size: int, kernel: int, stride: int, dilation: int, before: int, count: int) -> int:
    """Cells after the end of an axis that ``count`` windows actually read (never negative)."""
    return max((count - 1) * stride + window_extent(kernel, dilation) - size - before, 0)


def broadcast(a: Shape, b: Shape) -> Shape:
    """Shape of an elementwise result, by numpy's and torch's rule.

    Raises:
        ValueError: if the shapes do not broadcast.
    """
    rank = max(len(a), len(b))
    sides = [(1,) * (rank - len(s)) + s for s in (a, b)]
    if any(m != n and 1 not in (m, n) for m, n in zip(*sides, strict=True)):
        raise ValueError(f"shapes {a} and {b} do not broadcast")
    return tuple(n if m == 1 else m for m, n in zip(*sides, strict=True))
