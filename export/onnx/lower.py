"""One row per operator of the graph: which ONNX nodes it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from edgecnn.export.onnx import lower_images as images
from edgecnn.export.onnx import lower_pointwise as pointwise
from edgecnn.export.onnx.write import OnnxWriter
from edgecnn.graph import ops
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Op, Pair, ValueName
from edgecnn.graph.shapes import Padding

Lower = Callable[[OnnxWriter, Node, Any], None]


def _sides(padding: Padding) -> list[int] | None:
    """ONNX's order: all beginnings, then all ends; None where there is none to write."""
    top, bottom, left, right = padding
    return [top, left, bottom, right] if any(padding) else None


def _unless_ones(pair: Pair) -> list[int] | None:
    return None if pair == (1, 1) else list(pair)


def _kept_from_pad(graph: Graph, x: ValueName) -> str | None:
    """``VALID`` for a pooling after a Pad: it means no padding, and keeps ONNX Runtime from fusing the two.

    Fused (by 1.31, for one) the Pad's zeros become padding that a maximum ignores, so that negative images come out
    wrong, and padding of the kernel's size or more is refused when the model is loaded.
    """
    return "VALID" if isinstance(getattr(graph.producers.get(x), "op", None), ops.Pad) else None


def _weighted(w: OnnxWriter, node: Node, op: ops.Conv2d | ops.Linear, x: str) -> list[str]:
    return [x, w.weights(op.weight), *w.bias(node, op.bias)]


def conv_attributes(graph: Graph, op: ops.Conv2d) -> dict[str, Any]:
    """The attributes of a Conv."""
    return {
        "kernel_shape": list(graph.shapes[op.weight][2:]),
        "strides": _unless_ones(op.stride),
        "pads": _sides(op.padding),
        "dilations": _unless_ones(op.dilation),
        "group": None if op.groups == 1 else op.groups,
    }


def lower_conv2d(w: OnnxWriter, node: Node, op: ops.Conv2d) -> None:
    """Conv."""
    w.emit_activated("Conv", node, _weighted(w, node, op, w.tensor(op.x)), **conv_attributes(w.graph, op))


def write_gemm(w: OnnxWriter, node: Node, op: ops.Linear, rows: str) -> None:
    """Gemm of rows of features."""
    w.emit_activated("Gemm", node, _weighted(w, node, op, rows), transB=1)


def lower_linear(w: OnnxWriter, node: Node, op: ops.Linear) -> None:
    """Gemm for rows of features (after Flatten where the operator says so), MatMul and Add for more axes.

    In integers it is always Gemm: ONNX Runtime's integer MatMul has no bias.
    """
    rank = len(w.graph.shapes[op.x])
    flatten = rank != 2 and (op.flatten or w.in_integers)
    x = w.flatten(node, op.x) if flatten else w.tensor(op.x)
    if rank == 2 or flatten:
        write_gemm(w, node, op, x)
        return
    weight = w.weights(op.weight, transposed=True)
    if op.bias is None:
        w.emit_activated("MatMul", node, [x, weight])
    else:
        product = w.emit("MatMul", node, [x, weight], step="product")
        w.emit_activated("Add", node, [product, w.tensor(op.bias)])


def pool_attributes(graph: Graph, op: ops.MaxPool2d) -> dict[str, Any]:
    """The attributes of a MaxPool. ``ceil_mode`` is already padding, so that no runtime's own reading of it matters."""
    return {
        "kernel_shape": list(op.kernel),
        "strides": _unless_ones(op.stride),
        "pads": _sides(op.padding),
        "auto_pad": _kept_from_pad(graph, op.x),
        "dilations": _unless_ones(op.dilation),
    }


def lower_max_pool2d(w: OnnxWriter, node: Node, op: ops.MaxPool2d) -> None:
    """MaxPool."""
    w.emit("MaxPool", node, [w.tensor(op.x)], **pool_attributes(w.graph, op))


def lower_avg_pool2d(w: OnnxWriter, node: Node, op: ops.AvgPool2d) -> None:
    """GlobalAveragePool or AveragePool; what else torch can divide by is settled by legalization."""
    if op.kernel == w.graph.shapes[op.x][2:] and not any(op.padding):
        w.emit("GlobalAveragePool", node, [w.tensor(op.x)])
        return
    w.emit(
        "AveragePool",
        node,
        [w.tensor(op.x)],
        kernel_shape=list(op.kernel),
        strides=_unless_ones(op.stride),
        pads=_sides(op.padding),
        auto_pad=_kept_from_pad(w.graph, op.x),
        count_include_pad=1 if op.count_padding and any(op.padding) else None,
    )


def over_image(graph: Graph, op: ops.Mean) -> bool:
    """Whether a mean is that of whole images."""
    return len(graph.shapes[op.x]) == 4 and sorted(op.axes) == [2, 3]


def lower_mean(w: OnnxWriter, node: Node, op: ops.Mean) -> None:
    """ReduceMean, whose axes are an input from opset 18 on; in integers GlobalAveragePool where it is one."""
    if w.in_integers and over_image(w.graph, op):
        w.emit("GlobalAveragePool", node, [w.tensor(op.x)])
        return
    keepdims = None if op.keepdim else 0
    if w.opset >= 18:
        w.emit("ReduceMean", node, [w.tensor(op.x), w.integers(op.axes)], keepdims=keepdims)
    else:
        w.emit("ReduceMean", node, [w.tensor(op.x)], axes=list(op.axes), keepdims=keepdims)


def lower_clamp(w: OnnxWriter, node: Node, op: ops.Clamp) -> None:
    """Relu or Clip."""
    w.clamp(node, w.tensor(op.x), op.low, op.high)


def softmax(operator: str) -> Lower:
    """Softmax and its logarithm."""

    def lower(w: OnnxWriter, node: Node, op: ops.Softmax | ops.LogSoftmax) -> None:
        last = op.axis == len(node.shape) - 1
        w.emit(operator, node, [w.tensor(op.x)], axis=None if last else op.axis)

    lower.__doc__ = f"{operator}."
    return lower


def lower_concat(w: OnnxWriter, node: Node, op: ops.Concat) -> None:
    """Concat."""
    w.emit("Concat", node, [w.tensor(x) for x in op.xs], axis=op.axis)


def lower_reshape(w: OnnxWriter, node: Node, op: ops.Reshape) -> None:
    """Flatten, or Reshape that keeps whatever batch comes (0 stands for the input's own length)."""
    x, to = w.graph.shapes[op.x], op.to
    keeps_batch = bool(x) and bool(to) and x[0] == to[0] == 1
    if keeps_batch and len(to) == 2 and len(x) > 1:
        w.emit("Flatten", node, [w.tensor(op.x)])
    else:
        w.emit("Reshape", node, [w.tensor(op.x), w.integers((0, *to[1:]) if keeps_batch else to)])


def lower_transpose(w: OnnxWriter, node: Node, op: ops.Transpose) -> None:
    """Transpose."""
    w.emit("Transpose", node, [w.tensor(op.x)], perm=list(op.order))


def lower_pad(w: OnnxWriter, node: Node, op: ops.Pad) -> None:
    """Pad; without a value it pads with 0."""
    pads = w.integers([p[0] for p in op.pads] + [p[1] for p in op.pads])
    w.emit("Pad", node, [w.tensor(op.x), pads, *([w.scalar(op.value)] if op.value else [])])


def lower_slice(w: OnnxWriter, node: Node, op: ops.Slice) -> None:
    """Slice."""
    bounds = [w.integers([n]) for n in (op.start, op.stop, op.axis)]
    steps = [w.integers([op.step])] if op.step != 1 else []
    w.emit("Slice", node, [w.tensor(op.x), *bounds, *steps])


def _binary(operator: str) -> Lower:
    def lower(w: OnnxWriter, node: Node, op: ops.Binary | ops.Extreme) -> None:
        w.emit_activated(operator, node, [w.tensor(op.x), w.tensor(op.y)])

    lower.__doc__ = f"{operator}."
    return lower


def _unary(operator: str) -> Lower:
    def lower(w: OnnxWriter, node: Node, op: ops.Unary) -> None:
        w.emit(operator, node, [w.tensor(op.x)])

    lower.__doc__ = f"{operator}."
    return lower


LOWERINGS: Mapping[type[Op], Lower] = MappingProxyType(
    {
        ops.Conv2d: lower_conv2d,
        ops.Linear: lower_linear,
        ops.ConvTranspose2d: images.lower_conv_transpose2d,
        ops.MatMul: pointwise.lower_matmul,
        ops.MaxPool2d: lower_max_pool2d,
        ops.AvgPool2d: lower_avg_pool2d,
        ops.Mean: lower_mean,
        ops.Sum: pointwise.lower_sum,
        ops.Amax: pointwise.reduction("ReduceMax"),
        ops.Amin: pointwise.reduction("ReduceMin"),
        ops.ArgMax: pointwise.lower_argmax,
        ops.Relu: _unary("Relu"),
        ops.Clamp: lower_clamp,
        ops.Sigmoid: _unary("Sigmoid"),
        ops.Tanh: _unary("Tanh"),
        ops.LeakyRelu: pointwise.lower_leaky_relu,
        ops.PRelu: pointwise.lower_prelu,
        ops.Elu: _unary("Elu"),
        ops.Gelu: pointwise.lower_gelu,
        ops.HardSwish: pointwise.lower_hard_swish,
        ops.Softplus: _unary("Softplus"),
        ops.Abs: _unary("Abs"),
        ops.Sign: _unary("Sign"),
        ops.Exp: _unary("Exp"),
        ops.Log: _unary("Log"),
        ops.Sqrt: _unary("Sqrt"),
        ops.Rsqrt: pointwise.lower_rsqrt,
        ops.Erf: _unary("Erf"),
        ops.Pow: pointwise.lower_pow,
        ops.Softmax: softmax("Softmax"),
        ops.LogSoftmax: softmax("LogSoftmax"),
        ops.Add: _binary("Add"),
        ops.Sub: _binary("Sub"),
        ops.Mul: _binary("Mul"),
        ops.Div: _binary("Div"),
        ops.Minimum: _binary("Min"),
        ops.Maximum: _binary("Max"),
        ops.Concat: lower_concat,
        ops.Reshape: lower_reshape,
        ops.Transpose: lower_transpose,
        ops.Pad: lower_pad,
        ops.Slice: lower_slice,
        ops.Gather: images.lower_gather,
        ops.GatherImage: images.lower_gather_image,
        ops.DepthToSpace: images.lower_depth_to_space,
        ops.SpaceToDepth: images.lower_space_to_depth,
        ops.ResizeBilinear: images.lower_resize_bilinear,
    }
)
