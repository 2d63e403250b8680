"""Channel shuffles, and convolutions whose weights are reordered so that no shuffle is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Conv2d, DepthToSpace, Gather, ValueName
from edgecnn.graph.rewrite import Rewriter, rewrite


def shuffled(channels: int, groups: int) -> tuple[int, ...]:
    """The order in which ``channel_shuffle`` takes channels: one from each group in turn."""
    return tuple(int(i) for i in np.arange(channels).reshape(groups, -1).T.reshape(-1))


def blocks_first(graph: Graph) -> Graph:
    """Write torch's pixel shuffle as a Gather and a DepthToSpace in the channel order of TFLite and integer kernels.

    Does not apply to shuffles that use that order already.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case DepthToSpace(x=x, block=block, channels_first=True) as op:
                channels = r.shape(x)[1]
                order = shuffled(channels, channels // block**2)
                ordered = r.emit(Gather(x=x, axis=1, indices=order), node, "ordered")
                return r.emit(replace(op, x=ordered, channels_first=False), node)
        return None

    return rewrite(graph, step)


def fold_channel_order(graph: Graph) -> Graph:
    """Fold a reordering or selection of channels into the weights of the convolution before it.

    Does not apply where something else reads the convolution's result, nor to grouped convolutions.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Gather(axis=1) as gather if (before := r.producer(gather.x)) and isinstance(before.op, Conv2d):
                return _into_producer(r, before, before.op, gather)
        return None

    return rewrite(graph, step)


def _into_producer(r: Rewriter, before: Node, conv: Conv2d, gather: Gather) -> ValueName | None:
    if conv.groups != 1 or not r.sole_use(gather.x) or r.constant(conv.weight) is None:
        return None
    if conv.bias is not None and r.constant(conv.bias) is None:
        return None
    return r.fuse_into(before, _with_rows(r, conv, before.name, np.array(gather.indices)))


def _with_rows(r: Rewriter, conv: Conv2d, name: str, rows: npt.NDArray[np.int64]) -> Conv2d:
    """The convolution with these rows (output channels) of its weight and bias."""
    weight, bias = r.constant(conv.weight), r.constant(conv.bias)
    assert weight is not None
    new = replace(conv, weight=r.add_constant(f"{name}.weight", weight[rows], instead=conv.weight))
    if bias is not None:
        new = replace(new, bias=r.add_constant(f"{name}.bias", bias[rows], instead=conv.bias))
    return new
