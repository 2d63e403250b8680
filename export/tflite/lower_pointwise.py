"""TFLite for operators on elements, reductions, and products of computed matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgecnn.errors import LoweringError
from edgecnn.export.tflite.write import Axes, TfliteWriter, identity
from edgecnn.graph import ops
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import ValueName

Lower = Callable[[TfliteWriter, Node, Any], None]


def unary(operator: str, options: str = "") -> Lower:
    """An operator that computes each element by itself, in any order of axes."""

    def lower(w: TfliteWriter, node: Node, op: ops.Unary) -> None:
        axes = w.layout(op.x)
        w.emit(operator, node, [w.read(op.x, axes, node)], axes, (options, {}) if options else None)

    lower.__doc__ = f"{operator}."
    return lower


def reduction(operator: str) -> Lower:
    """An operator that reduces axes, wherever they are stored; the other axes keep their order."""

    def lower(w: TfliteWriter, node: Node, op: ops.Reduction) -> None:
        axes = w.layout(op.x)
        positions = [i for i, a in enumerate(axes) if a in op.axes]
        inputs = [w.read(op.x, axes, node), w.integers(positions)]
        result = axes if op.keepdim else without(axes, op.axes)
        w.emit(operator, node, inputs, result, ("ReducerOptions", {"keepDims": op.keepdim}))

    lower.__doc__ = f"{operator} over the axes where they are stored; the rest keep their order."
    return lower


def without(axes: Axes, dropped: tuple[int, ...]) -> Axes:
    """The order of the axes that are left when some are dropped."""
    kept = [a for a in axes if a not in dropped]
    return tuple(sorted(kept).index(a) for a in kept)


def lower_argmax(w: TfliteWriter, node: Node, op: ops.ArgMax) -> None:
    """ARG_MAX, an int64; a RESHAPE where the axis stays."""
    axes = w.layout(op.x)
    inputs = [w.read(op.x, axes, node), w.integers([axes.index(op.axis)])]
    kept = without(axes, (op.axis,))
    options = ("ArgMaxOptions", {"outputType": schema.TensorType.INT64})
    w.emit_positions(node, inputs, kept, axes if op.keepdim else kept, options)


def lower_leaky_relu(w: TfliteWriter, node: Node, op: ops.LeakyRelu) -> None:
    """LEAKY_RELU."""
    axes = w.layout(op.x)
    w.emit("LEAKY_RELU", node, [w.read(op.x, axes, node)], axes, ("LeakyReluOptions", {"alpha": op.slope}))


def lower_gelu(w: TfliteWriter, node: Node, op: ops.Gelu) -> None:
    """GELU."""
    axes = w.layout(op.x)
    w.emit("GELU", node, [w.read(op.x, axes, node)], axes, ("GeluOptions", {"approximate": op.approximate}))


def lower_softplus(w: TfliteWriter, node: Node, op: ops.Softplus) -> None:  # noqa: ARG001
    """ABS, LOGISTIC, LOG, RELU and SUB: legalization writes it so."""
    raise LoweringError("a softplus reached the writer")


def lower_erf(w: TfliteWriter, node: Node, op: ops.Erf) -> None:  # noqa: ARG001
    """Refused: there is none. GELU has one inside, and is recognised in its formula."""
    raise LoweringError("the error function has no counterpart in TFLite", hint="F.gelu, or --formats onnx")


def lower_pow(w: TfliteWriter, node: Node, op: ops.Pow) -> None:
    """POW."""
    axes = w.layout(op.x)
    exponent = w.number(node, op.exponent, (1,))
    w.emit("POW", node, [w.read(op.x, axes, node), exponent], axes, ("PowOptions", {}))


def softmax(operator: str, options: Any) -> Lower:
    """Softmax or its logarithm, which work along the last axis as stored."""

    def lower(w: TfliteWriter, node: Node, op: ops.Softmax | ops.LogSoftmax) -> None:
        axes = w.layout(op.x)
        if axes[-1] != op.axis:
            axes = tuple(sorted(axes, key=lambda a: (a == op.axis, a)))
        w.emit(operator, node, [w.read(op.x, axes, node)], axes, options)

    lower.__doc__ = f"{operator}, which works along the last axis as stored."
    return lower


def lower_matmul(w: TfliteWriter, node: Node, op: ops.MatMul) -> None:
    """BATCH_MATMUL, which takes either matrix transposed."""
    rank = len(node.shape)
    (x, adj_x), (y, adj_y) = (_matrix(w, node, v, rank) for v in (op.x, op.y))
    options = ("BatchMatMulOptions", {"adjX": adj_x, "adjY": adj_y})
    w.emit("BATCH_MATMUL", node, [x, y], identity(rank), options)


def _matrix(w: TfliteWriter, node: Node, value: ValueName, rank: int) -> tuple[int, bool]:
    """A matrix as it is stored or transposed, and whether it is transposed."""
    turned = (*range(rank - 2), rank - 1, rank - 2)
    if w.layout(value) == turned:
        return w.read(value, turned, node), True
    return w.read(value, identity(rank), node), False
