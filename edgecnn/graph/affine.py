"""Per-channel factors and summands (batch norms, mostly): merge them, and fold them into neighbouring layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Activation,
    Add,
    Conv2d,
    ConvTranspose2d,
    Div,
    Linear,
    Mul,
    Reshape,
    Sub,
    ValueName,
)
from edgecnn.graph.rewrite import Rewriter, rewrite
from edgecnn.graph.shapes import Shape

Doubles = npt.NDArray[np.float64]


def fold_affine(graph: Graph) -> Graph:
    """Fold a per-channel factor or summand (a batch norm, say) into the convolution or linear layer before it.

    Does not apply where something else reads the layer's result, where an activation stands between the two, where the
    constant varies along an axis other than the channels, or where a weight would leave float32's range.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        found = as_affine(r, node)
        if found is None:
            return None
        x, gain, shift = found
        layer = r.producer(x)
        if layer is None or not isinstance(layer.op, Conv2d | ConvTranspose2d | Linear) or not r.sole_use(x):
            return None
        if layer.op.activation is not Activation.NONE:
            return None
        axis = len(layer.shape) - 1 if isinstance(layer.op, Linear) else 1
        if node.shape != layer.shape:
            return None
        gains, shifts = (_per_channel(c, layer.shape, axis) for c in (gain, shift))
        if gains is None or shifts is None:
            return None
        return _fold(r, layer, layer.op, gains, shifts)

    return rewrite(graph, step)


def join_affine(graph: Graph) -> Graph:
    """Merge consecutive factors and summands into one factor and one summand; write a divisor as a factor.

    Does not apply where something else reads an intermediate value, or where a constant would leave float32's range.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        found = as_affine(r, node)
        if found is None:
            return None
        x, gain, shift = found
        kinds: list[type] = [type(node.op)]
        while r.sole_use(x) and (before := r.producer(x)) and (inner := as_affine(r, before)):
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
    """Fold a factor or summand into the linear layer or convolution that reads it, also across a flatten.

    Does not apply where something else reads the value, to a summand before a convolution with padding (padded cells
    do not get the summand), or to constants that vary within a convolution's image.
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
    found = as_affine(r, producer)
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
    """Factor and summand for each input of a weight, in a shape that broadcasts over the weight."""
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


def _fits(*arrays: Doubles) -> bool:
    """Whether all elements stay finite in float32."""
    with np.errstate(over="ignore"):
        return all(bool(np.isfinite(a.astype(np.float32)).all()) for a in arrays)


def as_affine(r: Rewriter, node: Node) -> tuple[ValueName, Doubles, Doubles] | None:
    """``(x, gain, shift)`` in float64 where a node computes ``x * gain + shift`` with constants; None otherwise."""
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


def _over_outputs(op: Conv2d | ConvTranspose2d | Linear, gain: Doubles, weight: Shape) -> Doubles:
    """One number per output channel in a shape that broadcasts over the weight."""
    if not isinstance(op, ConvTranspose2d):
        return gain.reshape(-1, *(1,) * (len(weight) - 1))
    per_group = gain.reshape(op.groups, 1, -1, 1, 1)
    return np.broadcast_to(per_group, (op.groups, weight[0] // op.groups, weight[1], 1, 1)).reshape(*weight[:2], 1, 1)


def _fold(
    r: Rewriter, layer: Node, op: Conv2d | ConvTranspose2d | Linear, gain: Doubles, shift: Doubles
) -> ValueName | None:
    weight, bias = r.constant(op.weight), r.constant(op.bias)
    if weight is None or (bias is None and op.bias is not None):
        return None
    scaled = weight.astype(np.float64) * _over_outputs(op, gain, weight.shape)
    shifted = (0 if bias is None else bias.astype(np.float64)) * gain + shift
    if not _fits(scaled, np.asarray(shifted)):
        return None
    new_weight = op.weight if np.all(gain == 1) else r.add_constant(f"{layer.name}.weight", scaled, instead=op.weight)
    if bias is None and not shifted.any():
        new_bias = None
    else:
        new_bias = r.add_constant(f"{layer.name}.bias", np.broadcast_to(shifted, gain.shape), instead=op.bias)
    return r.fuse_into(layer, replace(op, weight=new_weight, bias=new_bias))
