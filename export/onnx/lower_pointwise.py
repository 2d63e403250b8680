"""ONNX for operators on elements, and for reductions."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgecnn.export.onnx.write import OnnxWriter
from edgecnn.graph import ops
from edgecnn.graph.graph import Node

AXES_AS_INPUT = 18
"""From this opset on ReduceMax and ReduceMin take their axes as an input; ReduceSum always does here."""
HARD_SWISH_SINCE = 14
GELU_SINCE = 20


def lower_matmul(w: OnnxWriter, node: Node, op: ops.MatMul) -> None:
    """MatMul."""
    w.emit("MatMul", node, [w.tensor(op.x), w.tensor(op.y)])


def lower_sum(w: OnnxWriter, node: Node, op: ops.Sum) -> None:
    """ReduceSum."""
    w.emit("ReduceSum", node, [w.tensor(op.x), w.integers(op.axes)], keepdims=None if op.keepdim else 0)


def reduction(operator: str) -> Callable[[OnnxWriter, Node, ops.Amax | ops.Amin], None]:
    """A reduction by that operator."""

    def lower(w: OnnxWriter, node: Node, op: ops.Amax | ops.Amin) -> None:
        keepdims = None if op.keepdim else 0
        if w.opset >= AXES_AS_INPUT:
            w.emit(operator, node, [w.tensor(op.x), w.integers(op.axes)], keepdims=keepdims)
        else:
            w.emit(operator, node, [w.tensor(op.x)], axes=list(op.axes), keepdims=keepdims)

    lower.__doc__ = f"{operator}."
    return lower


def lower_argmax(w: OnnxWriter, node: Node, op: ops.ArgMax) -> None:
    """ArgMax, an int64."""
    w.emit("ArgMax", node, [w.tensor(op.x)], axis=op.axis, keepdims=int(op.keepdim))


def lower_leaky_relu(w: OnnxWriter, node: Node, op: ops.LeakyRelu) -> None:
    """LeakyRelu."""
    w.emit("LeakyRelu", node, [w.tensor(op.x)], alpha=op.slope)


def lower_prelu(w: OnnxWriter, node: Node, op: ops.PRelu) -> None:
    """PRelu."""
    w.emit("PRelu", node, [w.tensor(op.x), w.tensor(op.slope)])


def lower_gelu(w: OnnxWriter, node: Node, op: ops.Gelu) -> None:
    """Gelu, before opset 20 its formula."""
    x = w.tensor(op.x)
    if w.opset >= GELU_SINCE:
        w.emit("Gelu", node, [x], approximate="tanh" if op.approximate else None)
        return
    if op.approximate:
        square = w.emit("Mul", node, [x, x], step="square")
        cubic = w.emit("Mul", node, [square, w.scalar(0.044715)], step="cubic")
        bracket = w.emit("Add", node, [cubic, w.scalar(1.0)], step="bracket")
        line = w.emit("Mul", node, [x, w.scalar(math.sqrt(2 / math.pi))], step="line")
        inner = w.emit("Mul", node, [line, bracket], step="inner")
        curve = w.emit("Tanh", node, [inner], step="curve")
    else:
        inner = w.emit("Mul", node, [x, w.scalar(math.sqrt(0.5))], step="inner")
        curve = w.emit("Erf", node, [inner], step="curve")
    raised = w.emit("Add", node, [curve, w.scalar(1.0)], step="raised")
    half = w.emit("Mul", node, [x, w.scalar(0.5)], step="half")
    w.emit("Mul", node, [half, raised])


def lower_hard_swish(w: OnnxWriter, node: Node, op: ops.HardSwish) -> None:
    """HardSwish, before opset 14 x times HardSigmoid."""
    x = w.tensor(op.x)
    if w.opset >= HARD_SWISH_SINCE:
        w.emit("HardSwish", node, [x])
        return
    gate = w.emit("HardSigmoid", node, [x], step="gate", alpha=1 / 6, beta=0.5)
    w.emit("Mul", node, [x, gate])


def lower_rsqrt(w: OnnxWriter, node: Node, op: ops.Rsqrt) -> None:
    """Sqrt and Reciprocal."""
    w.emit("Reciprocal", node, [w.emit("Sqrt", node, [w.tensor(op.x)], step="root")])


def lower_pow(w: OnnxWriter, node: Node, op: ops.Pow) -> None:
    """Pow."""
    w.emit("Pow", node, [w.tensor(op.x), w.scalar(op.exponent)])
