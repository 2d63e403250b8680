"""Rewrites that bring a captured graph to the form that both formats are made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Activation,
    Add,
    AvgPool2d,
    Clamp,
    Conv2d,
    Div,
    Linear,
    MaxPool2d,
    Mul,
    Pad,
    Relu,
    Reshape,
    Slice,
    Sub,
    Transpose,
    ValueName,
)
from edgecnn.graph.rewrite import Rewriter, Rule, apply_rules, rewrite
from edgecnn.graph.shapes import Padding, Shape

Doubles = npt.NDArray[np.float64]


def simplify(graph: Graph) -> Graph:
    """All rewrites below, in their order, the graph verified after each.

    Raises:
        GraphError: if a folded weight leaves float32's range.
    """
    return apply_rules(graph, RULES)


def drop_no_ops(graph: Graph) -> Graph:
    """Drop operators that change nothing, and join a reshape of a reshape, or a transpose of a transpose.

    Does not apply to a join whose first half something else reads (the first half then stays).
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Reshape(x=x):
                if (before := r.producer(x)) and isinstance(before.op, Reshape):
                    node = replace(node, op=replace(node.op, x=(x := before.op.x)))
                    if r.shape(x) != node.shape:
                        return r.emit(node.op, node)
                return x if r.shape(x) == node.shape else None
            case Transpose(x=x, order=order):
                if (before := r.producer(x)) and isinstance(before.op, Transpose):
                    order = tuple(before.op.order[i] for i in order)
                    x = before.op.x
                    if order != tuple(range(len(order))):
                        return r.emit(Transpose(x=x, order=order), node)
                return x if order == tuple(range(len(order))) else None
            case Clamp(x=x, low=low, high=high) if (low, high) == (-np.inf, np.inf):
                return x
            case Slice(x=x) | Pad(x=x) if r.shape(x) == node.shape:
                return x
            case (
                MaxPool2d(x=x, kernel=(1, 1), stride=(1, 1))
                | AvgPool2d(x=x, kernel=(1, 1), stride=(1, 1), divisor=None)
            ) if r.shape(x) == node.shape:
                return x
        return None

    return rewrite(graph, step)


def fold_padding(graph: Graph) -> Graph:
    """Take a zero padding of height and width into the convolution that reads it.

    Does not apply to other values or axes, nor to a padded image that something else reads too.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Conv2d(x=x) as conv if (pad := r.producer(x)) and r.sole_use(x):
                match pad.op:
                    case Pad(value=0.0, pads=((0, 0), (0, 0), (top, bottom), (left, right))):
                        added = (top, bottom, left, right)
                        padding = Padding(*(a + b for a, b in zip(conv.padding, added, strict=True)))
                        return r.emit(replace(conv, x=pad.op.x, padding=padding), node)
        return None

    return rewrite(graph, step)


def fold_affine(graph: Graph) -> Graph:
    """Fold a per-channel factor or summand (a batch norm, say) into the convolution or linear layer before it.

    Does not apply where something else reads the layer's result, where an activation comes between, or where the
    constant varies along another axis than the channels, or where a weight would leave float32's range.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        found = _affine(r, node)
        if found is None:
            return None
        x, gain, shift = found
        layer = r.producer(x)
        if layer is None or not isinstance(layer.op, Conv2d | Linear) or not r.sole_use(x):
            return None
        if layer.op.activation is not Activation.NONE:
            return None
        axis = 1 if isinstance(layer.op, Conv2d) else len(layer.shape) - 1
        if node.shape != layer.shape:
            return None
        gains, shifts = (_per_channel(c, layer.shape, axis) for c in (gain, shift))
        if gains is None or shifts is None:
            return None
        return _fold(r, layer, layer.op, gains, shifts)

    return rewrite(graph, step)


def _affine(r: Rewriter, node: Node) -> tuple[ValueName, Doubles, Doubles] | None:
    """A node as ``x * gain + shift`` with constant gain and shift in float64, if it is that."""
    one, zero = np.ones((), np.float64), np.zeros((), np.float64)
    match node.op:
        case Mul(x=x, y=y, activation=Activation.NONE) | Add(x=x, y=y, activation=Activation.NONE):
            x, c = (x, r.constant(y)) if r.constant(y) is not None else (y, r.constant(x))
            if c is None:
                return None
            return (x, c.astype(np.float64), zero) if isinstance(node.op, Mul) else (x, one, c.astype(np.float64))
        case Sub(x=x, y=y, activation=Activation.NONE):
            if (c := r.constant(y)) is not None:
                return x, one, -c.astype(np.float64)
            if (c := r.constant(x)) is not None:
                return y, -one, c.astype(np.float64)
        case Div(x=x, y=y, activation=Activation.NONE):
            if (c := r.constant(y)) is not None and np.all(c != 0):
                return x, 1 / c.astype(np.float64), zero
    return None


def _per_channel(constant: Doubles, shape: Shape, axis: int) -> Doubles | None:
    """The constant as one value per channel of a layer's result, or None if it varies along any other axis."""
    if constant.ndim > len(shape):
        return None
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    if any(n != 1 for i, n in enumerate(full.shape) if i != axis):
        return None
    return np.broadcast_to(full.reshape(-1), (shape[axis],))


def _fold(r: Rewriter, layer: Node, op: Conv2d | Linear, gain: Doubles, shift: Doubles) -> ValueName | None:
    weight, bias = r.constant(op.weight), r.constant(op.bias)
    if weight is None or (bias is None and op.bias is not None):
        return None
    scaled = weight.astype(np.float64) * gain.reshape(-1, *(1,) * (weight.ndim - 1))
    shifted = (0 if bias is None else bias.astype(np.float64)) * gain + shift
    if not all(np.isfinite(c.astype(np.float32)).all() for c in (scaled, shifted)):
        return None
    new_weight = op.weight if np.all(gain == 1) else r.add_constant(f"{layer.name}.weight", scaled, instead=op.weight)
    if bias is None and not shifted.any():
        new_bias = None
    else:
        new_bias = r.add_constant(f"{layer.name}.bias", np.broadcast_to(shifted, gain.shape), instead=op.bias)
    return r.melt(layer, replace(op, weight=new_weight, bias=new_bias))


def fuse_activation(graph: Graph) -> Graph:
    """Let an operator clamp its own result, where a ReLU, ReLU6 or clamp to -1..1 follows.

    Does not apply to other bounds, to results that something else reads before the clamp, nor to pooling, shape
    operators and other activations.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Relu(x=x):
                bounds = Activation.RELU.bounds
            case Clamp(x=x, low=low, high=high):
                bounds = (low, high)
            case _:
                return None
        before = r.producer(x)
        activation = next((a for a in Activation if a.bounds == bounds), None)
        if before is None or activation is None or not r.sole_use(x):
            return None
        match before.op:
            case Conv2d() | Linear() | Add() | Sub() | Mul() | Div() as op if op.activation is Activation.NONE:
                return r.melt(before, replace(op, activation=activation))
        return None

    return rewrite(graph, step)


def flatten_into_linear(graph: Graph) -> Graph:
    """Let a linear layer read the image itself, where a flatten of (C, H, W) stands before it.

    TFLite's FULLY_CONNECTED takes a value of any rank, so no reshape and no transpose is left there. Does not apply to
    reshapes that give anything but (N, C*H*W).
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Linear(x=x, flatten=False) as linear if (before := r.producer(x)) and isinstance(before.op, Reshape):
                image = before.op.x
                if len(before.shape) == 2 and len(r.shape(image)) > 2 and r.shape(image)[0] == before.shape[0]:
                    return r.emit(replace(linear, x=image, flatten=True), node)
        return None

    return rewrite(graph, step)


def activate_before_reshape(graph: Graph) -> Graph:
    """Swap a ReLU or clamp with the reshape before it: it can then fuse, and the flatten melt into a linear layer.

    Does not apply where something else reads the reshaped value.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case (Relu(x=x) | Clamp(x=x)) as op if (before := r.producer(x)) and r.sole_use(x):
                if isinstance(before.op, Reshape):
                    moved = r.emit(replace(op, x=before.op.x), node, "unshaped")
                    return r.emit(replace(before.op, x=moved), node)
        return None

    return rewrite(graph, step)


RULES: tuple[Rule, ...] = (
    drop_no_ops,
    fold_padding,
    fold_affine,
    activate_before_reshape,
    fuse_activation,
    flatten_into_linear,
)
