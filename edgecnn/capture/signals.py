"""Signals (N, C, L) as images of height 1, so that the operators between two Conv1d work on images."""

from __future__ import annotations

from dataclasses import replace

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Add,
    Clamp,
    Concat,
    Div,
    Gather,
    Maximum,
    Mean,
    Minimum,
    Mul,
    Op,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Sub,
    Unary,
    ValueName,
    inputs_of,
    with_inputs,
)
from edgecnn.graph.rewrite import Rewriter, rewrite
from edgecnn.graph.shapes import Shape

Pointwise = Unary | PRelu | Add | Sub | Mul | Div | Minimum | Maximum | Concat | Slice | Pad | Gather | Softmax | Mean


def signals_as_images(graph: Graph) -> Graph:
    """Move elementwise operators and their like before the reshape that drops the height, so that layers can fuse them.

    Does not apply to values of other ranks, nor where no input is an image whose height was dropped.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        if not isinstance(node.op, Pointwise) or len(node.shape) != 3:
            return None
        computed = [i for i in inputs_of(node.op) if r.constant(i) is None]
        if not any(_image(r, i) for i in computed) or any(len(r.shape(i)) != 3 for i in computed):
            return None
        op = _raised(node.op)
        if op is None:
            return None
        renamed = {i: _as_image(r, node, i) for i in inputs_of(op)}
        moved = r.emit(with_inputs(op, renamed), node, "image")
        return r.emit(Reshape(x=moved, to=node.shape), node)

    return rewrite(graph, step)


def _image(r: Rewriter, value: ValueName) -> ValueName | None:
    """The image that was reshaped to a signal, else None."""
    node = r.producer(value)
    if node is None or not isinstance(node.op, Reshape):
        return None
    n, c, length = node.shape
    return node.op.x if r.shape(node.op.x) == (n, c, 1, length) else None


def _as_image(r: Rewriter, node: Node, value: ValueName) -> ValueName:
    shape = r.shape(value)
    constant = r.constant(value)
    if constant is not None:
        if len(shape) < 2:
            return value
        return r.add_constant(value, constant.reshape(_with_height(shape)))
    return _image(r, value) or r.emit(Reshape(x=value, to=_with_height(shape)), node, "raised")


def _with_height(shape: Shape) -> Shape:
    return (*shape[:-1], 1, shape[-1])


def _raised(op: Op) -> Op | None:
    """The operator for images: axis 2 becomes axis 3. None if it has no such form."""
    match op:
        case Concat() | Slice() | Gather() | Softmax():
            return replace(op, axis=3 if op.axis == 2 else op.axis)
        case Mean():
            return replace(op, axes=tuple(3 if a == 2 else a for a in op.axes)) if op.keepdim else None
        case Pad():
            return replace(op, pads=(*op.pads[:2], (0, 0), op.pads[2]))
        case _:
            return op


def activate_before_reshape(graph: Graph) -> Graph:
    """Swap a ReLU or clamp with the reshape before it, so that it fuses, and the flatten joins the linear layer.

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
