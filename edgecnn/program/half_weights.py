"""float16 weights: rounding a graph's weights to float16, and the weights that float16 cannot hold."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgecnn.errors import QuantizationError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Conv2d, ConvTranspose2d, Linear, ValueName
from edgecnn.program.qparams import Float

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)
"""The smallest normal float16; below it fewer than 11 significant bits are left."""


def weighted_nodes(graph: Graph) -> dict[ValueName, Node]:
    """For each weight of a convolution or linear layer, the first node that reads it.

    Biases and constant operands are not weights: they are few, and stay float32 where weights have a smaller type.
    """
    found: dict[ValueName, Node] = {}
    for node in graph.nodes:
        if isinstance(node.op, Conv2d | ConvTranspose2d | Linear) and node.op.weight in graph.constants:
            found.setdefault(node.op.weight, node)
    return found


def to_half(node: Node, weight: Float) -> npt.NDArray[np.float16]:
    """The weights of a layer as float16, rounded half to even.

    Raises:
        QuantizationError: if one would become infinite.
    """
    with np.errstate(over="ignore"):
        half = weight.astype(np.float16)
    if not np.isfinite(half).all():
        channel = int(np.argwhere(~np.isfinite(half))[0][0])
        raise QuantizationError(
            f"{node.describe()}: the weights of channel {channel} do not fit float16",
            why=f"the largest is {np.abs(weight).max():.3g}, float16 ends at {LARGEST:g}",
            hint="fp32, or scale the layer down",
        )
    return half


def half_weights(graph: Graph) -> Graph:
    """The graph with its weights rounded to float16. In float32 it computes what an fp16 file computes.

    Raises:
        QuantizationError: if a weight does not fit.
    """
    rounded = {
        name: to_half(node, graph.constants[name]).astype(np.float32) for name, node in weighted_nodes(graph).items()
    }
    return replace(graph, constants=MappingProxyType({**graph.constants, **rounded}))


def half_notes(graph: Graph) -> tuple[str, ...]:
    """A note for each layer with channels that float16 holds coarsely or not at all."""
    notes = []
    for name, node in weighted_nodes(graph).items():
        weight = graph.constants[name]
        largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
        coarse = int(((largest > 0) & (largest < SMALLEST_NORMAL)).sum())
        if coarse:
            notes.append(
                f"{node.describe()}: the weights of {coarse} channels lie below {SMALLEST_NORMAL:.1e}, where float16"
                " keeps fewer than 11 bits"
            )
    return tuple(notes)
