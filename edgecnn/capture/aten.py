"""One row per ATen operator: which operators of the graph it becomes.

A row is a function of the capture under way and the call's arguments under the names of the ATen schema. It gives the
value that the call's result is, or raises :class:`Unsupported` with the reason and what to try.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgecnn.capture.pooling import adaptive_windows, pooled_padding
from edgecnn.graph import ops
from edgecnn.graph.ops import Op, ValueName
from edgecnn.graph.shapes import Padding, Shape


class Unsupported(Exception):  # noqa: N818  (an answer, collected and reported with all others)
    """A call that the graph cannot express: the reason, and what to try."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Builder(Protocol):
    """What a row may do to the graph under construction."""

    @property
    def result_shape(self) -> Shape:
        """Shape of the call's result, as torch says, with a batch of 1."""

    def add(self, op: Op, suffix: str = "") -> ValueName:
        """Add an operator, named after the call, with a suffix for steps on the way."""

    def constant(self, array: npt.NDArray[Any], suffix: str) -> ValueName:
        """Add a constant named after the call."""

    def shape(self, value: ValueName) -> Shape:
        """The shape of a value."""

    def elements(self, value: ValueName | None) -> npt.NDArray[np.float32] | None:
        """The elements of a constant, or None where the value is computed from an input."""


class Args(Mapping[str, Any]):
    """The arguments of a call by the names of its schema, tensors as value names."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def pair(self, key: str, default: str | None = None) -> tuple[int, int]:
        """An argument of one or two numbers (or none: another argument's) as height and width."""
        value = self._values[key]
        if default is not None and (value is None or value == []):
            return self.pair(default)
        value = [value] if isinstance(value, int) else list(value)
        return (int(value[0]), int(value[-1]))


Row = Callable[[Builder, Args], ValueName]


def _axis(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def _conv2d(b: Builder, a: Args) -> ValueName:
    ph, pw = a.pair("padding")
    return _convolve(b, a, Padding(ph, ph, pw, pw))


def _conv2d_same(b: Builder, a: Args) -> ValueName:
    if a["padding"] == "valid":
        return _convolve(b, a, Padding())
    if a["padding"] != "same":
        raise Unsupported(f"padding {a['padding']!r} is not known")
    kernel, dilation = b.shape(a["weight"])[2:], a.pair("dilation")
    totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in totals)
    return _convolve(b, a, Padding(top, bottom, left, right))


def _convolve(b: Builder, a: Args, padding: Padding) -> ValueName:
    op = ops.Conv2d(
        x=_batched(b, a["input"], 4, "Conv2d"),
        weight=_weight(b, a["weight"], "conv2d"),
        bias=_bias(b, a["bias"]),
        stride=a.pair("stride"),
        padding=padding,
        dilation=a.pair("dilation"),
        groups=a["groups"],
    )
    return b.add(op)


def _convolution(b: Builder, a: Args) -> ValueName:
    if a["transposed"]:
        raise Unsupported("transposed convolution is not supported yet")
    if b.elements(a["weight"]) is not None and len(b.shape(a["weight"])) != 4:
        raise Unsupported("only 2-D convolution is supported", "Conv2d with a kernel of height 1 for 1-D data")
    return _conv2d(b, a)


def _batched(b: Builder, x: ValueName, rank: int, what: str) -> ValueName:
    if len(b.shape(x)) != rank:
        raise Unsupported(
            f"{what} is given a value of rank {len(b.shape(x))}, without a batch axis", "x.unsqueeze(0) before it"
        )
    return x


def _weight(b: Builder, weight: ValueName, what: str) -> ValueName:
    if b.elements(weight) is None:
        raise Unsupported(
            f"the weight of {what} is computed from the input",
            "weights that are parameters, buffers, or computed from these alone",
        )
    return weight


def _bias(b: Builder, bias: ValueName | None) -> ValueName | None:
    if bias is not None and b.elements(bias) is None:
        raise Unsupported("the bias is computed from the input", "an addition after the layer")
    return bias


def _linear(b: Builder, a: Args) -> ValueName:
    return b.add(ops.Linear(x=a["input"], weight=_weight(b, a["weight"], "linear"), bias=_bias(b, a["bias"])))


def _addmm(b: Builder, a: Args) -> ValueName:
    weight = b.elements(a["mat2"])
    if weight is None or (a["beta"], a["alpha"]) != (1, 1):
        raise Unsupported("a matrix product with a computed matrix, or with alpha or beta, is not supported")
    return b.add(ops.Linear(x=a["mat1"], weight=b.constant(weight.T, "weight"), bias=_bias(b, a["self"])))


def _matmul(b: Builder, a: Args) -> ValueName:
    left, right = (a["self"], a["other"] if "other" in a else a["mat2"])
    weight = b.elements(right)
    if weight is None or weight.ndim != 2:
        raise Unsupported("a matrix product is supported with a constant matrix on the right only", "nn.Linear")
    return b.add(ops.Linear(x=left, weight=b.constant(weight.T, "weight"), bias=None))


def _batch_norm(b: Builder, a: Args) -> ValueName:
    mean, variance = b.elements(a["running_mean"]), b.elements(a["running_var"])
    if a.get("training") or mean is None or variance is None:
        raise Unsupported(
            "batch norm takes its statistics from the batch, not from running averages",
            "track_running_stats=True, and a module in eval mode",
        )
    gain = 1.0 / np.sqrt(variance.astype(np.float64) + a["eps"])
    if a["weight"] is not None:
        gain = gain * _known(b, a["weight"], "batch norm")
    shift = -mean * gain
    if a["bias"] is not None:
        shift = shift + _known(b, a["bias"], "batch norm")
    column = (-1, *(1,) * (len(b.shape(a["input"])) - 2))
    scaled = b.add(ops.Mul(x=a["input"], y=b.constant(gain.reshape(column), "gain")), "scaled")
    return b.add(ops.Add(x=scaled, y=b.constant(shift.reshape(column), "shift")))


def _known(b: Builder, value: ValueName, what: str) -> npt.NDArray[np.float32]:
    elements = b.elements(value)
    if elements is None:
        raise Unsupported(f"a parameter of {what} is computed from the input")
    return elements


def _max_pool2d(b: Builder, a: Args) -> ValueName:
    kernel, stride, dilation = a.pair("kernel_size"), a.pair("stride", "kernel_size"), a.pair("dilation")
    x = _batched(b, a["self"], 4, "max pooling")
    padding, overhang = pooled_padding(b.shape(x), kernel, stride, a.pair("padding"), dilation, ceil=a["ceil_mode"])
    top, bottom, left, right = padding
    padding = Padding(top, bottom + overhang[0], left, right + overhang[1])
    return b.add(ops.MaxPool2d(x=x, kernel=kernel, stride=stride, padding=padding, dilation=dilation))


def _avg_pool2d(b: Builder, a: Args) -> ValueName:
    kernel, stride = a.pair("kernel_size"), a.pair("stride", "kernel_size")
    x = _batched(b, a["self"], 4, "average pooling")
    padding, overhang = pooled_padding(b.shape(x), kernel, stride, a.pair("padding"), (1, 1), ceil=a["ceil_mode"])
    op = ops.AvgPool2d(
        x=x,
        kernel=kernel,
        stride=stride,
        padding=padding,
        overhang=overhang,
        count_padding=a["count_include_pad"],
        divisor=a["divisor_override"],
    )
    return b.add(op)


def _adaptive(pool: Callable[[ValueName, tuple[int, int]], Op]) -> Row:
    """Adaptive pooling as plain pooling where the windows are all alike, else as one slice and pool per window."""

    def row(b: Builder, a: Args) -> ValueName:
        x = _batched(b, a["self"], 4, "adaptive pooling")
        sizes = [n if o is None else int(o) for n, o in zip(b.shape(x)[2:], a["output_size"], strict=True)]
        if all(n % o == 0 for n, o in zip(b.shape(x)[2:], sizes, strict=True)):
            return b.add(pool(x, (b.shape(x)[2] // sizes[0], b.shape(x)[3] // sizes[1])))
        for axis, count in ((2, sizes[0]), (3, sizes[1])):
            x = _pool_unevenly(b, pool, x, axis, count)
        return x

    return row


def _pool_unevenly(
    b: Builder, pool: Callable[[ValueName, tuple[int, int]], Op], x: ValueName, axis: int, count: int
) -> ValueName:
    last = axis == 3
    pooled = []
    for start, stop in adaptive_windows(b.shape(x)[axis], count):
        part = b.add(ops.Slice(x=x, axis=axis, start=start, stop=stop), "window")
        kernel = (1, stop - start) if last else (stop - start, 1)
        pooled.append(b.add(pool(part, kernel), "pooled"))
    if len(pooled) == 1:
        return pooled[0]
    return b.add(ops.Concat(xs=tuple(pooled), axis=axis), "" if last else "rows")


def _mean(b: Builder, a: Args) -> ValueName:
    rank = len(b.shape(a["self"]))
    axes = range(rank) if not a.get("dim") else (_axis(d, rank) for d in a["dim"])
    if a.get("dtype") is not None and str(a["dtype"]) != "torch.float32":
        raise Unsupported(f"a mean that gives {a['dtype']} is not supported", "float32")
    return b.add(ops.Mean(x=a["self"], axes=tuple(sorted(axes)), keepdim=bool(a.get("keepdim"))))


def _clamp(low: str, high: str) -> Row:
    def row(b: Builder, a: Args) -> ValueName:
        bounds = [default if a.get(k) is None else float(a[k]) for k, default in ((low, -math.inf), (high, math.inf))]
        return b.add(ops.Clamp(x=a["self"], low=bounds[0], high=bounds[1]))

    return row


def _softmax(b: Builder, a: Args) -> ValueName:
    return b.add(ops.Softmax(x=a["self"], axis=_axis(a["dim"], len(b.shape(a["self"])))))


def _binary(op: type[ops.Binary]) -> Row:
    def row(b: Builder, a: Args) -> ValueName:
        x, y = (_operand(b, a[k], k) for k in ("self", "other"))
        if a.get("rounding_mode") is not None:
            raise Unsupported(f"division with rounding_mode={a['rounding_mode']!r} is not supported")
        if (alpha := a.get("alpha", 1)) != 1:
            known, factor = b.elements(y), np.array(alpha, np.float64)
            y = (
                b.add(ops.Mul(x=y, y=b.constant(factor, "alpha")), "scaled")
                if known is None
                else b.constant(known * factor, "scaled")
            )
        return b.add(op(x=x, y=y))

    return row


def _reversed_sub(b: Builder, a: Args) -> ValueName:
    if a["alpha"] != 1:
        raise Unsupported("rsub with alpha is not supported", "other - alpha * x")
    return b.add(ops.Sub(x=_operand(b, a["other"], "other"), y=a["self"]))


def _operand(b: Builder, value: Any, name: str) -> ValueName:
    return value if isinstance(value, str) else b.constant(np.array(value, np.float64), name)


def _cat(b: Builder, a: Args) -> ValueName:
    values = [v for v in a["tensors"] if b.shape(v) != (0,)]  # torch lets an empty vector join anything
    return b.add(ops.Concat(xs=tuple(values), axis=_axis(a["dim"], len(b.shape(values[0])))))


def _reshape(b: Builder, a: Args) -> ValueName:
    return b.add(ops.Reshape(x=a["self"] if "self" in a else a["input"], to=b.result_shape))


def _permute(b: Builder, a: Args) -> ValueName:
    rank = len(b.shape(a["self"]))
    return b.add(ops.Transpose(x=a["self"], order=tuple(_axis(d, rank) for d in a["dims"])))


def _transpose(b: Builder, a: Args) -> ValueName:
    rank = len(b.shape(a["self"]))
    order = list(range(rank))
    i, j = (_axis(a[k], rank) for k in ("dim0", "dim1"))
    order[i], order[j] = order[j], order[i]
    return b.add(ops.Transpose(x=a["self"], order=tuple(order)))


def _pad(b: Builder, a: Args) -> ValueName:
    if a.get("mode", "constant") != "constant":
        raise Unsupported(f"padding mode {a['mode']!r} is not supported", "padding with zeros")
    return _constant_pad(b, a)


def _constant_pad(b: Builder, a: Args) -> ValueName:
    amounts: Sequence[int] = a["pad"]
    if min(amounts, default=0) < 0:
        raise Unsupported(f"negative padding {list(amounts)} is not supported", "a slice")
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    pairs += [(0, 0)] * (len(b.shape(a["self"])) - len(pairs))
    return b.add(ops.Pad(x=a["self"], pads=tuple(reversed(pairs)), value=float(a.get("value") or 0.0)))


def _slice(b: Builder, a: Args) -> ValueName:
    shape = b.shape(a["self"])
    axis = _axis(a["dim"], len(shape))
    start, stop, step = slice(a["start"], a["end"], a["step"]).indices(shape[axis])
    return b.add(ops.Slice(x=a["self"], axis=axis, start=start, stop=stop, step=step))


def _same(b: Builder, a: Args) -> ValueName:  # noqa: ARG001  (a row's signature)
    value: ValueName = a["self"] if "self" in a else a["input"]
    return value


def _dropout(b: Builder, a: Args) -> ValueName:
    if a["train"] and a["p"] > 0:
        raise Unsupported(
            "dropout is active in eval mode, so the model's output is random",
            "nn.Dropout, or F.dropout(x, training=self.training)",
        )
    return _same(b, a)


def _cast(b: Builder, a: Args) -> ValueName:
    dtype = a.get("dtype")
    if dtype is not None and str(dtype) != "torch.float32":
        raise Unsupported(f"a cast to {dtype} is not supported", "float32 throughout")
    return _same(b, a)


def _one_input(op: type[ops.Relu | ops.Sigmoid | ops.Tanh]) -> Row:
    return lambda b, a: b.add(op(x=a["self"]))


def _largest(x: ValueName, kernel: tuple[int, int]) -> Op:
    return ops.MaxPool2d(x=x, kernel=kernel, stride=kernel)


def _average(x: ValueName, kernel: tuple[int, int]) -> Op:
    return ops.AvgPool2d(x=x, kernel=kernel, stride=kernel)


# In-place forms (aten.relu_.default) use the row of the form without the underscore.
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "aten.conv2d.default": _conv2d,
        "aten.conv2d.padding": _conv2d_same,
        "aten.convolution.default": _convolution,
        "aten.linear.default": _linear,
        "aten.addmm.default": _addmm,
        "aten.mm.default": _matmul,
        "aten.matmul.default": _matmul,
        "aten.batch_norm.default": _batch_norm,
        "aten._native_batch_norm_legit_no_training.default": _batch_norm,
        "aten.max_pool2d.default": _max_pool2d,
        "aten.max_pool2d_with_indices.default": _max_pool2d,
        "aten.avg_pool2d.default": _avg_pool2d,
        "aten.adaptive_avg_pool2d.default": _adaptive(_average),
        "aten._adaptive_avg_pool2d.default": _adaptive(_average),
        "aten.adaptive_max_pool2d.default": _adaptive(_largest),
        "aten.mean.dim": _mean,
        "aten.mean.default": _mean,
        "aten.relu.default": _one_input(ops.Relu),
        "aten.relu6.default": lambda b, a: b.add(ops.Clamp(x=a["self"], low=0.0, high=6.0)),
        "aten.hardtanh.default": _clamp("min_val", "max_val"),
        "aten.clamp.default": _clamp("min", "max"),
        "aten.clamp_min.default": _clamp("min", "max"),
        "aten.clamp_max.default": _clamp("min", "max"),
        "aten.sigmoid.default": _one_input(ops.Sigmoid),
        "aten.tanh.default": _one_input(ops.Tanh),
        "aten.softmax.int": _softmax,
        "aten._softmax.default": _softmax,
        "aten.add.Tensor": _binary(ops.Add),
        "aten.add.Scalar": _binary(ops.Add),
        "aten.sub.Tensor": _binary(ops.Sub),
        "aten.sub.Scalar": _binary(ops.Sub),
        "aten.rsub.Scalar": _reversed_sub,
        "aten.mul.Tensor": _binary(ops.Mul),
        "aten.mul.Scalar": _binary(ops.Mul),
        "aten.div.Tensor": _binary(ops.Div),
        "aten.div.Scalar": _binary(ops.Div),
        "aten.div.Tensor_mode": _binary(ops.Div),
        "aten.cat.default": _cat,
        "aten.concat.default": _cat,
        "aten.flatten.using_ints": _reshape,
        "aten.view.default": _reshape,
        "aten.reshape.default": _reshape,
        "aten._unsafe_view.default": _reshape,
        "aten.unflatten.int": _reshape,
        "aten.squeeze.default": _reshape,
        "aten.squeeze.dim": _reshape,
        "aten.squeeze.dims": _reshape,
        "aten.unsqueeze.default": _reshape,
        "aten.permute.default": _permute,
        "aten.transpose.int": _transpose,
        "aten.pad.default": _pad,
        "aten.constant_pad_nd.default": _constant_pad,
        "aten.slice.Tensor": _slice,
        "aten.dropout.default": _dropout,
        "aten.feature_dropout.default": _dropout,
        "aten.alpha_dropout.default": _dropout,
        "aten.clone.default": _same,
        "aten.contiguous.default": _same,
        "aten.detach.default": _same,
        "aten.alias.default": _same,
        "aten.lift_fresh_copy.default": _same,
        "aten.to.dtype": _cast,
        "aten.to.dtype_layout": _cast,
        "aten._to_copy.default": _cast,
    }
)

# What to try instead of operators that have no row; the first prefix that matches.
HINTS: Mapping[str, str] = MappingProxyType(
    {
        "aten.conv1d": "Conv2d with a kernel of height 1",
        "aten.conv_transpose": "nearest or bilinear upsampling outside the model, or a smaller output",
        "aten.lstm": "a convolutional model: recurrent layers are outside what edgecnn does",
        "aten.gru": "a convolutional model: recurrent layers are outside what edgecnn does",
        "aten.scaled_dot_product_attention": "a convolutional model: attention is outside what edgecnn does",
        "aten.embedding": "a convolutional model: embeddings are outside what edgecnn does",
        "aten.argmax": "leave argmax out of the model and take it from the scores on the device",
        "aten.leaky_relu": "ReLU or ReLU6",
        "aten.silu": "ReLU or ReLU6",
        "aten.gelu": "ReLU or ReLU6",
        "aten.hardswish": "ReLU or ReLU6",
        "aten.hardsigmoid": "Sigmoid",
        "aten.elu": "ReLU or ReLU6",
        "aten.log_softmax": "leave log_softmax to the training loss and return the scores before it",
        "aten.expand": "leave it out: arithmetic broadcasts by itself",
        "aten.chunk": "slices, such as x[:, :k] and x[:, k:]",
        "aten.split": "slices, such as x[:, :k] and x[:, k:]",
        "aten.unbind": "slices, such as x[:, 0:1]",
        "aten.neg": "0 - x",
        "aten.pow.Tensor_Scalar": "x * x for a square",
        "aten.square": "x * x",
        "aten.sum": "x.mean(...) times the number of elements",
        "aten.upsample": "upsampling outside the model",
        "aten.pixel_shuffle": "reshape, permute and reshape",
        "aten.prelu": "ReLU or ReLU6",
        "aten.group_norm": "BatchNorm2d",
        "aten.instance_norm": "BatchNorm2d",
        "aten.layer_norm": "BatchNorm2d",
        "aten.where": "relu or clamp, where one of them says the same",
        "aten.index": "slices",
        "aten.amax": "AdaptiveMaxPool2d(1) for the largest over height and width",
        "aten.max_pool1d": "MaxPool2d with a kernel of height 1",
        "aten.avg_pool1d": "AvgPool2d with a kernel of height 1",
        "aten.rand": "a model whose output does not depend on chance",
    }
)
DEFAULT_HINT = (
    "convolution, pooling, linear, batch norm, ReLU, sigmoid, tanh, softmax, + - * /, cat, reshape or permute"
)


def hint_for(operator: str) -> str:
    """What to try instead of an operator that has no row."""
    return next((hint for prefix, hint in HINTS.items() if operator.startswith(prefix)), DEFAULT_HINT)
