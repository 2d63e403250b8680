"""How a convolution is folded: the geometry of blocks, their weights and their images.

An image stored with its channels innermost holds the channels of ``g`` neighbors side by side, so that a row of W
places with C channels each *is* a row of W / g places with g * C channels. A convolution that takes such blocks and
gives blocks of ``f`` places has the layer's weights, copied to where each place of the block looks, and zeros
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgecnn.graph.ops import Conv2d
from edgecnn.graph.shapes import Padding
from edgecnn.program.qparams import Int8
from edgecnn.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """How a convolution is folded.

    Attributes:
        inputs: Places of a row of the image that become one, g.
        outputs: Places of a row of the result that are computed as one, f.
        first: The block that a window begins in, counted from the result's block: 0 or negative.
        width: Blocks of a window in a row.
        right: Blocks of padding on the right; on the left there are ``-first``.
        read: Channels of the image as it is read, those of zeros included.
        given: Channels of the result as it is given, those of zeros included.
        planes: Whether a block read holds the places of its first channel, then of the next, and so on, which is less
            to move where the image comes with its channels first; else the channels of its first place, and so on.
        halves: Whether a block given holds its even places, then its odd ones. As an image of blocks half as long that
            is what a pooling of two by two takes: it has fewer windows then, of more channels.
    """

    inputs: int
    outputs: int
    first: int
    width: int
    right: int
    read: int
    given: int
    planes: bool = False
    halves: bool = False

    def convolution(self, op: Conv2d) -> Conv2d:
        """The convolution of blocks."""
        top, bottom, _, _ = op.padding
        return replace(
            op,
            stride=(op.stride[0], 1),
            dilation=(op.dilation[0], 1),
            padding=Padding(top=top, bottom=bottom, left=-self.first, right=self.right),
        )

    def shift(self, op: Conv2d, place: int) -> int:
        """Where the kernel of a block's place begins in the row of ``width * inputs`` places that the block reads."""
        return op.stride[1] * place - op.padding[2] - self.first * self.inputs

    def reach(self, op: Conv2d, columns: int) -> tuple[int, int]:
        """Of the row that a block reads: places of padding before it, and how long it is with what is on both sides."""
        before = max(-self.shift(op, 0), 0)
        end = max(self.shift(op, self.outputs - 1) + columns, self.width * self.inputs)
        return before, before + end

    def weights(self, op: Conv2d, weights: Int8) -> Int8:
        """(f * given, g * read, rows, blocks): the weights of the convolution of blocks."""
        wide = spread(weights, op.dilation[1])
        outs, ins, rows, columns = wide.shape
        before, reach = self.reach(op, columns)
        row = np.zeros((self.outputs, self.given, self.read, rows, reach), np.int8)
        for place in range(self.outputs):
            start = before + self.shift(op, place)
            row[place, :outs, :ins, :, start : start + columns] = wide
        row = row[..., before : before + self.width * self.inputs]
        if self.halves:
            row = np.concatenate([row[::2], row[1::2]])
        split = row.reshape(self.outputs * self.given, self.read, rows, self.width, self.inputs)
        order = (0, 1, 4, 2, 3) if self.planes else (0, 4, 1, 2, 3)
        return np.ascontiguousarray(split.transpose(order)).reshape(len(split), -1, rows, self.width)

    def image(self, x: Array, fill: int) -> Array:
        """An image (N, C, H, W) as it is read: (N, g * read, H, W / g)."""
        samples, channels, height, width = x.shape
        beyond = self.beyond(width)
        wide = np.pad(x, ((0, 0), (0, self.read - channels), (0, 0), (0, beyond)), constant_values=fill)
        blocks = (width + beyond) // self.inputs
        split = wide.reshape(samples, self.read, height, blocks, self.inputs)
        order = (0, 1, 4, 2, 3) if self.planes else (0, 4, 1, 2, 3)
        return split.transpose(order).reshape(samples, -1, height, blocks)

    def beyond(self, width: int) -> int:
        """Places of padding that complete the last block of a row of ``width`` places."""
        return -width % self.inputs


def spread(weights: Int8, dilation: int) -> Int8:
    """Weights with the zeros that a dilation along rows of the image skips."""
    wide = np.zeros((*weights.shape[:3], (weights.shape[3] - 1) * dilation + 1), weights.dtype)
    wide[..., ::dilation] = weights
    return wide
