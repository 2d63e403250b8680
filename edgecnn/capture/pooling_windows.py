"""The arithmetic of torch's pooling windows."""

from __future__ import annotations

from edgecnn.graph.shapes import Padding, Shape, window_extent

Pair = tuple[int, int]


def pooled_padding(
    shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, *, ceil: bool
) -> tuple[Padding, Pair]:
    """Padding on all four sides, and what ``ceil_mode`` adds below and to the right.

    torch's rule (``pooling_output_shape`` in ATen/native/Pool.h): with ``ceil_mode`` an incomplete last window counts,
    if it starts inside the image or the padding before it.
    """
    over = [_overhang(*axis) if ceil else 0 for axis in zip(shape[2:], kernel, stride, padding, dilation, strict=True)]
    (ph, pw) = padding
    return Padding(ph, ph, pw, pw), (over[0], over[1])


def _overhang(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    extent = window_extent(kernel, dilation)
    spare = size + 2 * padding - extent
    count = -(-spare // stride) + 1
    if (count - 1) * stride >= size + padding:
        count -= 1
    return max((count - 1) * stride - spare, 0)


def adaptive_windows(size: int, count: int) -> list[Pair]:
    """Start and stop of each window of adaptive pooling: ``floor(i * size / count)``, ``ceil((i + 1) * size / count)``.

    From ATen/native/AdaptivePooling.h (``start_index``, ``end_index``).
    """
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
