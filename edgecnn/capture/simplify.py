"""Rewrites that bring a captured graph to the form that both formats are made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgecnn.capture.recognise import recognise_activations, recognise_shuffles
from edgecnn.capture.signals import activate_before_reshape, signals_as_images
from edgecnn.graph.channels import fold_channel_order
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Activation,
    Add,
    AvgPool2d,
    Clamp,
    Conv2d,
    Div,
    Gather,
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
            case Gather(x=x, axis=axis, indices=indices) if indices == tuple(range(r.shape(x)[axis])):
                return x
            case Mul() | Add() | Sub() | Div() if (found := _affine(r, node)) is not None:
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
    """Compute once what is computed twice: the same operator on the same values.

    Does not apply to equal constants under different names.
    """
    seen: dict[Op, ValueName] = {}

    def step(_: Rewriter, node: Node) -> ValueName | None:
        value = seen.setdefault(node.op, node.name)
        return None if value == node.name else value

    return rewrite(graph, step)


def broadcast_by_arithmetic(graph: Graph) -> Graph:
    """Leave it to additions and their kin to spread a value over axes of length 1, where an expansion stands before.

    Does not apply where the other operand does not have the axes' length itself.
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
    """What a value was before it was repeated along axes of length 1."""
    while (node := r.producer(value)) is not None:
        if not isinstance(node.op, Gather) or r.shape(node.op.x)[node.op.axis] != 1:
            break
        value = node.op.x
    return value


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


def join_affine(graph: Graph) -> Graph:
    """Bring factors and summands that follow each other to one factor and one summand; a divisor to a factor.

    Does not apply where something else reads a value in between, or where a constant would leave float32's range.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        found = _affine(r, node)
        if found is None:
            return None
        x, gain, shift = found
        kinds: list[type] = [type(node.op)]
        while r.sole_use(x) and (before := r.producer(x)) and (inner := _affine(r, before)):
            if before.shape != node.shape:
                break
            x, gain, shift = inner[0], inner[1] * gain, inner[2] * gain + shift
            kinds.insert(0, type(before.op))
        if kinds in ([Mul], [Add], [Mul, Add]) or r.shape(x) != node.shape or not _fits(gain, shift):
            return None
        if not shift.any():
            return r.emit(Mul(x=x, y=r.add_constant(f"{node.name}.gain", gain)), node)
        if not np.all(gain == 1):
            x = r.emit(Mul(x=x, y=r.add_constant(f"{node.name}.gain", gain)), node, "scaled")
        return r.emit(Add(x=x, y=r.add_constant(f"{node.name}.shift", shift)), node)

    return rewrite(graph, step)


def fold_affine_forward(graph: Graph) -> Graph:
    """Fold a factor or summand into the linear layer or convolution that reads it, through a flatten too.

    Does not apply where something else reads the value, to a summand before a convolution with padding (padded cells
    are 0 after it), or to constants that vary within a convolution's image.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Linear() | Conv2d() as op:
                return _fold_forward(r, node, op)
        return None

    return rewrite(graph, step)


def _fold_forward(r: Rewriter, node: Node, op: Linear | Conv2d) -> ValueName | None:
    weight, bias = r.constant(op.weight), r.constant(op.bias)
    before = r.producer(op.x)
    flat = before if before is not None and isinstance(before.op, Reshape) and isinstance(op, Linear) else None
    value = flat.op.x if flat is not None and isinstance(flat.op, Reshape) else op.x
    producer = r.producer(value)
    if weight is None or (bias is None and op.bias is not None) or producer is None or not r.sole_use(op.x):
        return None
    found = _affine(r, producer)
    if found is None or not r.sole_use(value) or r.shape(found[0]) != producer.shape:
        return None
    if flat is not None and (len(flat.shape) != 2 or flat.shape[0] != producer.shape[0]):
        return None
    x, gain, shift = found
    columns = _columns(op, flat is not None, producer.shape, gain, shift)
    if columns is None:
        return None
    gains, shifts = columns
    wide = weight.astype(np.float64)
    added = (wide * shifts).reshape(len(wide), -1).sum(axis=1)
    scaled, shifted = wide * gains, added + (0 if bias is None else bias)
    if not _fits(scaled, shifted):
        return None
    new = replace(op, x=x if flat is None else r.emit(Reshape(x=x, to=flat.shape), node, "flat"))
    new = replace(new, weight=r.add_constant(f"{node.name}.weight", scaled, instead=op.weight))
    if bias is not None or shifted.any():
        new = replace(new, bias=r.add_constant(f"{node.name}.bias", shifted, instead=op.bias))
    return r.emit(new, node)


def _columns(
    op: Linear | Conv2d, flattened: bool, shape: Shape, gain: Doubles, shift: Doubles
) -> tuple[Doubles, Doubles] | None:
    """Factor and summand of each of a weight's columns, in a shape that broadcasts over the weight."""
    if isinstance(op, Linear):
        whole = op.flatten or flattened
        gains, shifts = (np.broadcast_to(c, shape) for c in (gain, shift))
        if whole:
            return gains.reshape(1, -1), shifts.reshape(1, -1)
        per_feature = [_per_channel(c, shape, len(shape) - 1) for c in (gain, shift)]
        if per_feature[0] is None or per_feature[1] is None:
            return None
        return per_feature[0][None], per_feature[1][None]
    channels = [_per_channel(c, shape, 1) for c in (gain, shift)]
    if channels[0] is None or channels[1] is None or op.groups != 1 or (any(op.padding) and shift.any()):
        return None
    return channels[0].reshape(1, -1, 1, 1), channels[1].reshape(1, -1, 1, 1)


def mean_of_flattened(graph: Graph) -> Graph:
    """Average an image over height and width itself, where they were joined to one axis first.

    Does not apply to averages over other axes, nor to reshapes that do anything else.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Mean(x=x, axes=(2,), keepdim=False) if (before := r.producer(x)) and isinstance(before.op, Reshape):
                image = r.shape(before.op.x)
                if len(image) == 4 and before.shape == (*image[:2], image[2] * image[3]):
                    return r.emit(Mean(x=before.op.x, axes=(2, 3)), node)
        return None

    return rewrite(graph, step)


def _fits(*arrays: Doubles) -> bool:
    """Whether all elements stay finite in float32."""
    with np.errstate(over="ignore"):
        return all(bool(np.isfinite(a.astype(np.float32)).all()) for a in arrays)


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
    if not _fits(scaled, np.asarray(shifted)):
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
)
