"""The graph executed in float by torch's kernels. Its values separate errors of capture from errors of lowering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own habit)

from edgecnn.graph import ops
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import Activation, Op

Tensor = torch.Tensor
Execute = Callable[..., Tensor]


def execute_float(
    graph: Graph, inputs: Sequence[npt.NDArray[Any]], *, dtype: torch.dtype = torch.float32
) -> dict[str, npt.NDArray[Any]]:
    """Every value of the graph, by name, for a batch of inputs.

    Args:
        graph: The graph.
        inputs: One array per graph input, (samples, ...). More than one sample needs a graph whose batch is free.
        dtype: The type to compute in; ``torch.float64`` shows the rounding errors of float32.

    Raises:
        KeyError: if the number of inputs differs from the graph's.
    """
    values = {name: _tensor(array, dtype) for name, array in graph.constants.items()}
    values |= {i.name: _tensor(array, dtype) for i, array in zip(graph.inputs, inputs, strict=True)}
    samples = len(inputs[0])
    with torch.no_grad():
        for node in graph.nodes:
            reads = [values[name] for name in node.inputs]
            result = EXECUTORS[type(node.op)](node.op, samples, *reads)
            values[node.name] = _activate(result, getattr(node.op, "activation", Activation.NONE))
    return {name: value.numpy() for name, value in values.items() if name not in graph.constants}


def _tensor(array: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(array)).to(dtype)  # a copy: torch does not support read-only arrays


def _activate(x: Tensor, activation: Activation) -> Tensor:
    return x if activation is Activation.NONE else x.clamp(*activation.bounds)


def _conv2d(op: ops.Conv2d, _: int, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, bottom, left, right = op.padding
    if (top, left) == (bottom, right):
        return F.conv2d(x, weight, bias, op.stride, (top, left), op.dilation, op.groups)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, op.stride, 0, op.dilation, op.groups)


def _linear(op: ops.Linear, _: int, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x.flatten(1) if op.flatten else x, weight, bias)


def _max_pool2d(op: ops.MaxPool2d, _: int, x: Tensor) -> Tensor:
    top, bottom, left, right = op.padding
    padded = F.pad(x, (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(padded, op.kernel, op.stride, 0, op.dilation)


def _avg_pool2d(op: ops.AvgPool2d, _: int, x: Tensor) -> Tensor:
    top, bottom, left, right = op.reach
    cells = op.kernel[0] * op.kernel[1]
    total = F.avg_pool2d(F.pad(x, (left, right, top, bottom)), op.kernel, op.stride) * cells
    if op.divisor is not None:
        return total / op.divisor
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    pad = op.padding
    counted = F.pad(counted, (pad.left, pad.right, pad.top, pad.bottom), value=1.0 if op.count_padding else 0.0)
    counted = F.pad(counted, (0, op.overhang[1], 0, op.overhang[0]))
    return total / (F.avg_pool2d(counted, op.kernel, op.stride) * cells)


def _reshape(op: ops.Reshape, samples: int, x: Tensor) -> Tensor:
    keeps_batch = samples > 1 and x.shape[0] == samples and op.to[0] == 1
    return x.reshape((samples, *op.to[1:]) if keeps_batch else op.to)


def _pad(op: ops.Pad, _: int, x: Tensor) -> Tensor:
    return F.pad(x, [n for pair in reversed(op.pads) for n in pair], value=op.value)


def _conv_transpose2d(op: ops.ConvTranspose2d, _: int, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv_transpose2d(x, weight, bias, op.stride, op.padding, op.output_padding, op.groups, op.dilation)


def _gather(op: ops.Gather, _: int, x: Tensor) -> Tensor:
    return x.index_select(op.axis, torch.tensor(op.indices))


def _gather_image(op: ops.GatherImage, _: int, x: Tensor) -> Tensor:
    return x.index_select(2, torch.tensor(op.rows)).index_select(3, torch.tensor(op.columns))


def _depth_to_space(op: ops.DepthToSpace, _: int, x: Tensor) -> Tensor:
    if op.channels_first:
        return F.pixel_shuffle(x, op.block)
    n, c, h, w = x.shape
    squares = x.reshape(n, op.block, op.block, c // op.block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return squares.reshape(n, c // op.block**2, h * op.block, w * op.block)


def _space_to_depth(op: ops.SpaceToDepth, _: int, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    squares = x.reshape(n, c, h // op.block, op.block, w // op.block, op.block).permute(0, 3, 5, 1, 2, 4)
    return squares.reshape(n, c * op.block**2, h // op.block, w // op.block)


def _resize_bilinear(op: ops.ResizeBilinear, _: int, x: Tensor) -> Tensor:
    result: Tensor = torch.ops.aten.upsample_bilinear2d(x, op.to, op.align_corners, *(op.factors or (None, None)))
    return result


def _leaky(x: Tensor, slope: Tensor | float) -> Tensor:
    return torch.where(x > 0, x, x * slope)


def _gelu(op: ops.Gelu, _: int, x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh" if op.approximate else "none")


def _slice(op: ops.Slice, _: int, x: Tensor) -> Tensor:
    return x[(slice(None),) * op.axis + (slice(op.start, op.stop, op.step),)]


EXECUTORS: Mapping[type[Op], Execute] = MappingProxyType(
    {
        ops.Conv2d: _conv2d,
        ops.Linear: _linear,
        ops.MaxPool2d: _max_pool2d,
        ops.AvgPool2d: _avg_pool2d,
        ops.ConvTranspose2d: _conv_transpose2d,
        ops.MatMul: lambda _op, _, x, y: x @ y,
        ops.Mean: lambda op, _, x: x.mean(op.axes, keepdim=op.keepdim),
        ops.Sum: lambda op, _, x: x.sum(op.axes, keepdim=op.keepdim),
        ops.Amax: lambda op, _, x: x.amax(op.axes, keepdim=op.keepdim),
        ops.Amin: lambda op, _, x: x.amin(op.axes, keepdim=op.keepdim),
        ops.ArgMax: lambda op, _, x: x.argmax(op.axis, keepdim=op.keepdim),
        ops.Relu: lambda _op, _, x: x.relu(),
        ops.Clamp: lambda op, _, x: x.clamp(op.low, op.high),
        ops.Sigmoid: lambda _op, _, x: x.sigmoid(),
        ops.Tanh: lambda _op, _, x: x.tanh(),
        ops.LeakyRelu: lambda op, _, x: _leaky(x, op.slope),
        ops.PRelu: lambda _op, _, x, slope: _leaky(x, slope),
        ops.Elu: lambda _op, _, x: F.elu(x),
        ops.Gelu: _gelu,
        ops.HardSwish: lambda _op, _, x: F.hardswish(x),
        ops.Softplus: lambda _op, _, x: F.softplus(x, threshold=50),
        ops.Abs: lambda _op, _, x: x.abs(),
        ops.Sign: lambda _op, _, x: x.sign(),
        ops.Exp: lambda _op, _, x: x.exp(),
        ops.Log: lambda _op, _, x: x.log(),
        ops.Sqrt: lambda _op, _, x: x.sqrt(),
        ops.Rsqrt: lambda _op, _, x: x.rsqrt(),
        ops.Erf: lambda _op, _, x: x.erf(),
        ops.Pow: lambda op, _, x: x.pow(op.exponent),
        ops.Softmax: lambda op, _, x: x.softmax(op.axis),
        ops.LogSoftmax: lambda op, _, x: x.log_softmax(op.axis),
        ops.Add: lambda _op, _, x, y: x + y,
        ops.Sub: lambda _op, _, x, y: x - y,
        ops.Mul: lambda _op, _, x, y: x * y,
        ops.Div: lambda _op, _, x, y: x / y,
        ops.Minimum: lambda _op, _, x, y: torch.minimum(x, y),
        ops.Maximum: lambda _op, _, x, y: torch.maximum(x, y),
        ops.Concat: lambda op, _, *xs: torch.cat(xs, op.axis),
        ops.Reshape: _reshape,
        ops.Transpose: lambda op, _, x: x.permute(op.order),
        ops.Pad: _pad,
        ops.Slice: _slice,
        ops.Gather: _gather,
        ops.GatherImage: _gather_image,
        ops.DepthToSpace: _depth_to_space,
        ops.SpaceToDepth: _space_to_depth,
        ops.ResizeBilinear: _resize_bilinear,
    }
)
