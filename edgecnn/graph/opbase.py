"""What operators have in common: activations that can be fused, and checks of their fields and shapes."""

from __future__ import annotations

import math
from enum import StrEnum

from edgecnn.errors import GraphError
from edgecnn.graph.shapes import Padding, Shape, window_count

ValueName = str
Pair = tuple[int, int]
NO_PADDING = Padding()


class Activation(StrEnum):
    """An activation that an operator applies to its own result: the set that TFLite can fuse."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest value of the result."""
        return {
            Activation.NONE: (-math.inf, math.inf),
            Activation.RELU: (0.0, math.inf),
            Activation.RELU6: (0.0, 6.0),
            Activation.RELU_N1_TO_1: (-1.0, 1.0),
        }[self]


def check(condition: bool, message: str) -> None:
    """Raise an error if a condition of an operator does not hold.

    Raises:
        GraphError: with the message.
    """
    if not condition:
        raise GraphError(message)


def image(shape: Shape, what: str) -> Shape:
    """Refuse a shape that is not an image's; return it otherwise."""
    check(len(shape) == 4, f"{what} takes a value of rank 4 (N, C, H, W), not {shape}")
    return shape


def windows(shape: Shape, what: str, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> Pair:
    """The number of windows in rows and columns; refuse a kernel that fits nowhere."""
    _, _, height, width = image(shape, what)
    rows = window_count(height, kernel[0], stride[0], dilation[0], padding.rows)
    columns = window_count(width, kernel[1], stride[1], dilation[1], padding.columns)
    check(
        rows > 0 and columns > 0,
        f"{what}: kernel {kernel} with dilation {dilation} does not fit into an image of {height}x{width}"
        f" padded by {tuple(padding)}",
    )
    return rows, columns


def positive(what: str, **pairs: Pair) -> None:
    """Refuse numbers below 1."""
    for name, pair in pairs.items():
        check(min(pair) > 0, f"{what}: {name} {pair} must be positive")


def axis_of(what: str, axis: int, shape: Shape) -> None:
    """Refuse an axis that a shape does not have."""
    check(0 <= axis < len(shape), f"{what}: no axis {axis} in {shape}")
