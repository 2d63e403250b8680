"""What operators are made of: activations that can be fused, and the checks that all of them share."""

from __future__ import annotations

import math
from enum import StrEnum

from edgecnn.errors import GraphError
from edgecnn.graph.shapes import Padding, Shape, window_count

ValueName = str
Pair = tuple[int, int]
NO_PADDING = Padding()


class Activation(StrEnum):
    """What an operator may apply to its own result: the set that TFLite can fuse."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that it lets through."""
        return {
            Activation.NONE: (-math.inf, math.inf),
            Activation.RELU: (0.0, math.inf),
            Activation.RELU6: (0.0, 6.0),
            Activation.RELU_N1_TO_1: (-1.0, 1.0),
        }[self]


def check(condition: bool, message: str) -> None:
    """Refuse an operator.

    Raises:
        GraphError: if the condition does not hold.
    """
    if not condition:
        raise GraphError(message)


def image(shape: Shape, what: str) -> Shape:
    """Refuse what is no image."""
    check(len(shape) == 4, f"{what} takes a value of rank 4 (N, C, H, W), not {shape}")
    return shape


def windows(shape: Shape, what: str, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> Pair:
    """Rows and columns of windows; there must be some."""
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
