"""One row per operator of the graph: which TFLite operators it becomes.

Legalization has settled padding; the lowerings settle layout.

A row reads its values in the order that TFLite's operator needs and says in which order it gives the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgecnn.errors import LoweringError
from edgecnn.export.tflite import lower_images as images
from edgecnn.export.tflite import lower_pointwise as pointwise
from edgecnn.export.tflite.legalize import padding_scheme
from edgecnn.export.tflite.lower_pointwise import reduction, unary
from edgecnn.export.tflite.write import NHWC, Axes, TfliteWriter, identity
from edgecnn.graph import ops
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Activation, Op, Pair, ValueName
from edgecnn.graph.shapes import Padding

Lower = Callable[[TfliteWriter, Node, Any], None]

FUSED: Mapping[Activation, int] = MappingProxyType(
    {
        Activation.NONE: schema.ActivationFunctionType.NONE,
        Activation.RELU: schema.ActivationFunctionType.RELU,
        Activation.RELU6: schema.ActivationFunctionType.RELU6,
        Activation.RELU_N1_TO_1: schema.ActivationFunctionType.RELU_N1_TO_1,
    }
)
CLAMPS: Mapping[tuple[float, float], str] = MappingProxyType(
    {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}
)


def lower_conv2d(w: TfliteWriter, node: Node, op: ops.Conv2d) -> None:
    """CONV_2D, or DEPTHWISE_CONV_2D where every input channel has a group of its own."""
    weight = w.graph.constants[op.weight]
    channels, depthwise = w.graph.shapes[op.x][1], op.groups > 1
    if depthwise and op.groups != channels:
        raise LoweringError(f"{op.groups} groups for {channels} channels reached the writer unsplit")
    kernel = (weight.shape[2], weight.shape[3])
    options: dict[str, Any] = {
        "padding": _padding(w, node, op.x, kernel, op.stride, op.dilation, op.padding),
        **_strides(op.stride),
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
        "fusedActivationFunction": FUSED[op.activation],
    }
    # CONV_2D: (out, height, width, in); DEPTHWISE_CONV_2D: (1, height, width, out)
    axes = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    inputs = [
        w.read(op.x, NHWC, node),
        w.weights(op.weight, lambda a: a.transpose(axes), axes.index(0), key=("filter", axes)),
        w.bias(node, op.bias, weight.shape[0]),
    ]
    if depthwise:
        options["depthMultiplier"] = weight.shape[0] // channels
        w.emit("DEPTHWISE_CONV_2D", node, inputs, NHWC, ("DepthwiseConv2DOptions", options), version=_dilated(op))
    else:
        w.emit("CONV_2D", node, inputs, NHWC, ("Conv2DOptions", options))


def _dilated(op: ops.Conv2d) -> int:
    """DEPTHWISE_CONV_2D has dilation from version 2 on (tensorflow/lite/tools/versioning/op_version.cc)."""
    return 1 if op.dilation == (1, 1) else 2


def _strides(stride: Pair) -> dict[str, int]:
    return {"strideH": stride[0], "strideW": stride[1]}


def _padding(
    w: TfliteWriter, node: Node, x: ValueName, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> int:
    scheme = padding_scheme(w.graph.shapes[x][2:], node.shape[2:], kernel, stride, dilation, padding)
    if scheme is None:
        raise LoweringError(f"padding {tuple(padding)} reached the writer, and is neither SAME nor VALID")
    return int(getattr(schema.Padding, scheme))


def lower_linear(w: TfliteWriter, node: Node, op: ops.Linear) -> None:
    """FULLY_CONNECTED. An image is read as it is stored: the weight's columns are permuted instead of its elements.

    It gives rows, and a RESHAPE the axes where there are more. With keep_num_dims it would give them itself, but
    tflite-runtime 2.14's reference kernels (and with int16 all of its kernels) then compute nonsense.
    """
    weight, shape = w.graph.constants[op.weight], w.graph.shapes[op.x]
    axes: Axes = w.layout(op.x) if op.flatten else identity(len(shape))
    if axes[0] != 0:
        axes = identity(len(shape))

    def columns(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not op.flatten:
            return array
        return array.reshape(-1, *shape[1:]).transpose(0, *axes[1:]).reshape(array.shape)

    inputs = [
        w.read(op.x, axes, node),
        w.weights(op.weight, columns, 0, key=("columns", shape[1:] if op.flatten else (), axes)),
        w.bias(node, op.bias, weight.shape[0]),
    ]
    w.emit_rows(
        "FULLY_CONNECTED", node, inputs, ("FullyConnectedOptions", {"fusedActivationFunction": FUSED[op.activation]})
    )


def lower_max_pool2d(w: TfliteWriter, node: Node, op: ops.MaxPool2d) -> None:
    """MAX_POOL_2D; with dilation STRIDED_SLICE and MAXIMUM."""
    _pool(w, node, "MAX_POOL_2D", op, op.padding)


def lower_avg_pool2d(w: TfliteWriter, node: Node, op: ops.AvgPool2d) -> None:
    """AVERAGE_POOL_2D, which never counts padding."""
    _pool(w, node, "AVERAGE_POOL_2D", op, op.padding)


def _pool(w: TfliteWriter, node: Node, operator: str, op: ops.MaxPool2d | ops.AvgPool2d, padding: Padding) -> None:
    options = {
        "padding": _padding(w, node, op.x, op.kernel, op.stride, (1, 1), padding),
        **_strides(op.stride),
        "filterHeight": op.kernel[0],
        "filterWidth": op.kernel[1],
    }
    w.emit(operator, node, [w.read(op.x, NHWC, node)], NHWC, ("Pool2DOptions", options))


def lower_clamp(w: TfliteWriter, node: Node, op: ops.Clamp) -> None:
    """An operator of the RELU family where it has these bounds, else MAXIMUM and MINIMUM."""
    if (op.low, op.high) not in CLAMPS:
        lower_bounds(w, node, op)
        return
    axes = w.layout(op.x)
    w.emit(CLAMPS[op.low, op.high], node, [w.read(op.x, axes, node)], axes)


def lower_bounds(w: TfliteWriter, node: Node, op: ops.Clamp | ops.Relu) -> None:
    """MAXIMUM and MINIMUM, for the bounds that change anything."""
    low, high = (0.0, math.inf) if isinstance(op, ops.Relu) else (op.low, op.high)
    axes = w.layout(op.x)
    x = w.read_as(op.x, axes, node)
    steps = [(name, b) for name, b in (("MAXIMUM", low), ("MINIMUM", high)) if w.bound_matters(node, name, b)]
    if not steps:
        w.place(node, x, axes)
    for i, (operator, bound) in enumerate(steps):
        limit = w.number(node, bound, (1,))
        step = "low" if i + 1 < len(steps) else ""
        x = w.emit(operator, node, [x, limit], axes, ("MaximumMinimumOptions", {}), step=step)


def _binary(operator: str, options: str) -> Lower:
    def lower(w: TfliteWriter, node: Node, op: ops.Binary | ops.Extreme) -> None:
        rank = len(node.shape)
        computed = [v for v in (op.x, op.y) if v not in w.graph.constants and len(w.graph.shapes[v]) == rank]
        largest = max(computed, key=lambda v: math.prod(w.graph.shapes[v]), default=None)
        axes = w.layout(largest) if largest is not None else identity(rank)
        if isinstance(op, ops.Minimum | ops.Maximum):
            inputs = [_operand_as(w, node, v, axes) for v in (op.x, op.y)]
            w.emit(operator, node, inputs, axes, (options, {}))
            return
        inputs = [_operand(w, node, v, axes) for v in (op.x, op.y)]
        w.emit(operator, node, inputs, axes, (options, {"fusedActivationFunction": FUSED[op.activation]}))

    lower.__doc__ = f"{operator}."
    return lower


def _operand_as(w: TfliteWriter, node: Node, value: ValueName, axes: Axes) -> int:
    """A value with the parameters of the node's own, for operators that compare integers as they are."""
    return _operand(w, node, value, axes) if value in w.graph.constants else w.read_as(value, axes, node)


def _operand(w: TfliteWriter, node: Node, value: ValueName, axes: Axes) -> int:
    """A value in the given order, brought to the same rank where a broadcast needs that."""
    shape, rank = w.graph.shapes[value], len(axes)
    if len(shape) == rank:
        return w.read(value, axes, node)
    if value not in w.graph.constants:
        raise LoweringError(
            f"{value} of shape {shape} is broadcast over axes that it does not have",
            hint=f"x.reshape{(1,) * (rank - len(shape)) + shape} before the operation",
        )

    def spread(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        full = array.reshape((1,) * (rank - len(shape)) + shape).transpose(axes)
        lead = next((i for i, n in enumerate(full.shape) if n != 1), rank - 1)
        return full.reshape(full.shape[lead:])

    return w.operand(value, spread, key=(value, axes))


def lower_concat(w: TfliteWriter, node: Node, op: ops.Concat) -> None:
    """CONCATENATION, in the order of the first value."""
    axes = w.layout(op.xs[0])
    inputs = [w.read_as(x, axes, node) for x in op.xs]
    w.emit("CONCATENATION", node, inputs, axes, ("ConcatenationOptions", {"axis": axes.index(op.axis)}))


def lower_reshape(w: TfliteWriter, node: Node, op: ops.Reshape) -> None:
    """RESHAPE, of the elements as they are stored where that is the same, else in torch's order."""
    w.reshape(node, op.x)


def lower_prelu(w: TfliteWriter, node: Node, op: ops.PRelu) -> None:
    """PRELU."""
    axes = w.layout(op.x)
    w.emit("PRELU", node, [w.read(op.x, axes, node), _operand(w, node, op.slope, axes)], axes)


def lower_conv_transpose2d(w: TfliteWriter, node: Node, op: ops.ConvTranspose2d) -> None:  # noqa: ARG001
    """CONV_2D and DEPTH_TO_SPACE: legalization writes it so."""
    raise LoweringError("a transposed convolution reached the writer")


def lower_transpose(w: TfliteWriter, node: Node, op: ops.Transpose) -> None:
    """No operator: the tensor stays, and its axes have other names."""
    if op.x in w.graph.constants:
        raise LoweringError(f"{op.x} is a constant that was not folded")
    w.rename_axes(node, op.x, tuple(op.order.index(a) for a in w.layout(op.x)))


def lower_pad(w: TfliteWriter, node: Node, op: ops.Pad) -> None:
    """PAD, or PADV2 for another value than 0."""
    axes = w.layout(op.x)
    inputs = [w.read(op.x, axes, node), w.integers(np.array([op.pads[a] for a in axes]))]
    if op.value == 0:
        w.emit("PAD", node, inputs, axes, ("PadOptions", {}))
    else:
        value = w.number(node, op.value, ())
        w.emit("PADV2", node, [*inputs, value], axes, ("PadV2Options", {}))


def lower_slice(w: TfliteWriter, node: Node, op: ops.Slice) -> None:
    """STRIDED_SLICE that takes all of every other axis, whatever the size of the batch."""
    axes = w.layout(op.x)
    at = axes.index(op.axis)
    bounds = [
        [v if i == at else rest for i in range(len(axes))] for v, rest in ((op.start, 0), (op.stop, 0), (op.step, 1))
    ]
    whole = sum(1 << i for i in range(len(axes)) if i != at)
    tensors = [w.read(op.x, axes, node), *(w.integers(b) for b in bounds)]
    w.emit("STRIDED_SLICE", node, tensors, axes, ("StridedSliceOptions", {"beginMask": whole, "endMask": whole}))


LOWERINGS: Mapping[type[Op], Lower] = MappingProxyType(
    {
        ops.Conv2d: lower_conv2d,
        ops.ConvTranspose2d: lower_conv_transpose2d,
        ops.Linear: lower_linear,
        ops.MatMul: pointwise.lower_matmul,
        ops.MaxPool2d: lower_max_pool2d,
        ops.AvgPool2d: lower_avg_pool2d,
        ops.Mean: reduction("MEAN"),
        ops.Sum: reduction("SUM"),
        ops.Amax: reduction("REDUCE_MAX"),
        ops.Amin: reduction("REDUCE_MIN"),
        ops.ArgMax: pointwise.lower_argmax,
        ops.Relu: unary("RELU"),
        ops.Clamp: lower_clamp,
        ops.Sigmoid: unary("LOGISTIC"),
        ops.Tanh: unary("TANH"),
        ops.LeakyRelu: pointwise.lower_leaky_relu,
        ops.PRelu: lower_prelu,
        ops.Elu: unary("ELU"),
        ops.Gelu: pointwise.lower_gelu,
        ops.HardSwish: unary("HARD_SWISH", "HardSwishOptions"),
        ops.Softplus: pointwise.lower_softplus,
        ops.Abs: unary("ABS", "AbsOptions"),
        ops.Sign: unary("SIGN", "SignOptions"),
        ops.Exp: unary("EXP", "ExpOptions"),
        ops.Log: unary("LOG"),
        ops.Sqrt: unary("SQRT"),
        ops.Rsqrt: unary("RSQRT"),
        ops.Erf: pointwise.lower_erf,
        ops.Pow: pointwise.lower_pow,
        ops.Softmax: pointwise.softmax("SOFTMAX", ("SoftmaxOptions", {"beta": 1.0})),
        ops.LogSoftmax: pointwise.softmax("LOG_SOFTMAX", ("LogSoftmaxOptions", {})),
        ops.Add: _binary("ADD", "AddOptions"),
        ops.Sub: _binary("SUB", "SubOptions"),
        ops.Mul: _binary("MUL", "MulOptions"),
        ops.Div: _binary("DIV", "DivOptions"),
        ops.Minimum: _binary("MINIMUM", "MaximumMinimumOptions"),
        ops.Maximum: _binary("MAXIMUM", "MaximumMinimumOptions"),
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
