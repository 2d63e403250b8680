"""Rewrites that bring a captured graph to the form that all formats are written from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecnn.capture.recognize import recognise_activations, recognise_shuffles
from edgecnn.capture.signals import activate_before_reshape, signals_as_images
from edgecnn.graph.affine import as_affine, fold_affine, fold_affine_forward, join_affine
from edgecnn.graph.fold_channel_order import fold_channel_order
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Activation,
    Add,
    AvgPool2d,
    Clamp,
    Conv2d,
    ConvTranspose2d,
    Div,
    Gather,
    GatherImage,
    Linear,
    Maximum,
    MaxPool2d,
    Mean,
    Minimum,
    Mul,
    Op,
    Pad,
    Relu,
    Reshape,
    Slice,
    Sub,
    Transpose,
    ValueName,
)
from edgecnn.graph.propagate_channel_order import propagate_channel_order
from edgecnn.graph.rewrite import Rewriter, Rule, apply_rules, rewrite
from edgecnn.graph.shapes import Padding


def simplify(graph: Graph) -> Graph:
    """Apply all rewrites below in order, and verify the graph after each.

    Raises:
        GraphError: if a folded weight leaves float32's range.
    """
    return apply_rules(graph, RULES)


def drop_no_ops(graph: Graph) -> Graph:
    """Drop operators that change nothing, and merge consecutive reshapes and consecutive transposes.

    If something else reads the first of two, the first stays.
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
            case Gather(x=x, axis=axis, indices=indices) if indices == tuple(range(r.shape(x)[axis])):
                return x
            case Mul() | Add() | Sub() | Div() if (found := as_affine(r, node)) is not None:
                x, gain, shift = found
                return x if np.all(gain == 1) and not shift.any() and r.shape(x) == node.shape else None
            case (
                MaxPool2d(x=x, kernel=(1, 1), stride=(1, 1))
                | AvgPool2d(x=x, kernel=(1, 1), stride=(1, 1), divisor=None)
            ) if r.shape(x) == node.shape:
                return x
        return None

    return rewrite(graph, step)


def share_equals(graph: Graph) -> Graph:
    """Compute equal operators on equal values once.

    Does not apply to equal constants under different names.
    """
    seen: dict[Op, ValueName] = {}

    def step(_: Rewriter, node: Node) -> ValueName | None:
        value = seen.setdefault(node.op, node.name)
        return None if value == node.name else value

    return rewrite(graph, step)


def broadcast_by_arithmetic(graph: Graph) -> Graph:
    """Drop an expansion before arithmetic, which broadcasts axes of length 1 itself.

    Does not apply where the other operand does not have the expanded lengths.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Add(x=x, y=y) | Sub(x=x, y=y) | Mul(x=x, y=y) | Div(x=x, y=y) | Minimum(x=x, y=y) | Maximum(x=x, y=y):
                a, b = _unspread(r, x), _unspread(r, y)
                for new in (replace(node.op, x=a, y=b), replace(node.op, x=a), replace(node.op, y=b)):
                    if new != node.op and new.shape(r.shape(new.x), r.shape(new.y)) == node.shape:
                        return r.emit(new, node)
        return None

    return rewrite(graph, step)


def _unspread(r: Rewriter, value: ValueName) -> ValueName:
    """The value before it was expanded along axes of length 1."""
    while (node := r.producer(value)) is not None:
        match node.op:
            case Gather(x=x, axis=axis) if r.shape(x)[axis] == 1:
                value = x
            case GatherImage(x=x) if r.shape(x)[2:] == (1, 1):
                value = x
            case _:
                break
    return value


def fold_padding(graph: Graph) -> Graph:
    """Fold a zero padding of height and width into the convolution that reads it.

    Does not apply to other values or axes, nor to a padded image with other readers.
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


def mean_of_flattened(graph: Graph) -> Graph:
    """Replace a mean over flattened pixels by a mean over height and width.

    Does not apply to means over other axes, nor after other reshapes.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Mean(x=x, axes=(2,), keepdim=False) if (before := r.producer(x)) and isinstance(before.op, Reshape):
                image = r.shape(before.op.x)
                if len(image) == 4 and before.shape == (*image[:2], image[2] * image[3]):
                    return r.emit(Mean(x=before.op.x, axes=(2, 3)), node)
        return None

    return rewrite(graph, step)


def fuse_activation(graph: Graph) -> Graph:
    """Fuse a ReLU, ReLU6 or clamp to -1..1 into the operator before it.

    Does not apply to other bounds, to results that something else reads before the clamp, nor after pooling, shape
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
            case Conv2d() | ConvTranspose2d() | Linear() | Add() | Sub() | Mul() | Div() as op:
                return (
                    r.fuse_into(before, replace(op, activation=activation))
                    if op.activation is Activation.NONE
                    else None
                )
        return None

    return rewrite(graph, step)


def flatten_into_linear(graph: Graph) -> Graph:
    """Fold a flatten of (C, H, W) into the linear layer that reads it.

    TFLite's FULLY_CONNECTED takes values of any rank, so its file needs no reshape and no transpose. Does not apply to
    reshapes to other shapes than (N, C*H*W).
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Linear(x=x, flatten=False) as linear if (before := r.producer(x)) and isinstance(before.op, Reshape):
                image = before.op.x
                if len(before.shape) == 2 and len(r.shape(image)) > 2 and r.shape(image)[0] == before.shape[0]:
                    return r.emit(replace(linear, x=image, flatten=True), node)
        return None

    return rewrite(graph, step)


RULES: tuple[Rule, ...] = (
    drop_no_ops,
    share_equals,
    recognise_shuffles,
    recognise_activations,
    broadcast_by_arithmetic,
    signals_as_images,
    drop_no_ops,
    fold_padding,
    mean_of_flattened,
    fold_affine,
    join_affine,
    fold_affine_forward,
    fold_affine_forward,  # twice: batch norms on both sides of a flatten
    activate_before_reshape,
    fuse_activation,
    flatten_into_linear,
    fold_channel_order,
    propagate_channel_order,
    fold_channel_order,
)
