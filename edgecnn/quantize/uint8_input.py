"""uint8 inputs: fold the preprocessing of a camera's bytes exactly into the input's parameters and the first layer.

A model input is ``x = (b * scale - mean) / std`` per channel, where b is a byte; that is ``x = s * (b - z)`` with
``s = scale / std`` and ``z = mean / scale``. If all channels share s, and z is one integer from 0 to 255, x is a uint8
tensor of scale s and zero point z. If channels differ in s, the weights of the first layer absorb the difference. If z
is not an integer or differs, a rest ``r = s * (zero point - z)`` per channel remains. Without padding the bias absorbs
it. A padded cell is x = 0, which no byte represents, and must not get the rest. So a padded convolution reads one more
channel, which is ``t`` inside the image and, as the padding of every channel is, 0 around it: its weights
``sum_c(w_c * r_c) / t`` add the rest of each cell inside the image and of no other. That is exact in real numbers, with
any mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.data.calibration import Calibration, Samples
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import QuantizationError
from edgecnn.graph.affine import fold_affine_forward
from edgecnn.graph.graph import Graph, GraphBuilder, Node
from edgecnn.graph.ops import Add, Conv2d, Mul, Pad, ValueName, with_inputs
from edgecnn.graph.rewrite import apply_rules
from edgecnn.program.qparams import INT8_MAX, INT8_MIN, QParams
from edgecnn.types import FloatArray

Doubles = npt.NDArray[np.float64]
INSIDE = "inside"
"""Suffix of the input with a channel that is constant inside the image."""
WHOLE = 1e-6
"""Tolerance for a zero point to count as an integer: the float32 rounding of mean / scale."""


@dataclass(frozen=True, kw_only=True)
class ByteInput:
    """A graph whose input is ``u = s * (b - z)`` instead of x.

    Attributes:
        graph: The graph.
        params: The parameters of its first input; the integers are the bytes minus 128.
        factor: ``x = u * factor + offset``, per channel, (1, C, 1, 1).
        offset: The summand of ``factor``'s formula, per channel, (1, C, 1, 1).
    """

    graph: Graph
    params: QParams
    factor: Doubles
    offset: Doubles

    def convert(self, inputs: Sequence[npt.NDArray[Any]]) -> list[FloatArray]:
        """Convert the model's inputs (samples, ...) to inputs of the new graph."""
        first = ((inputs[0].astype(np.float64) - self.offset) / self.factor).astype(np.float32)
        return [first, *inputs[1:]]

    def calibration(self, data: Calibration) -> Calibration:
        """Calibration data for the new graph."""

        def batches() -> Iterator[Sequence[FloatArray]]:
            return (self.convert(batch) for batch in data.batches())

        golden = Samples(inputs=tuple(self.convert(data.golden.inputs)), origin=data.origin, labels=data.golden.labels)
        return replace(data, batches=batches, golden=golden)


def take_bytes(graph: Graph, preprocessing: Preprocessing) -> ByteInput:
    """Make a graph's first input take bytes.

    Raises:
        QuantizationError: if the preprocessing cannot be folded exactly, with the reason.
    """
    name, shape = graph.inputs[0].name, graph.inputs[0].shape
    if len(shape) != 4:
        raise QuantizationError(f"the input {name} is not an image", hint="--io int8 or float32")
    scales, zeros = _per_channel(preprocessing, shape[1])
    zero = int(np.clip(np.rint(zeros.mean()), 0, 255))
    if (scales <= 0).any() or not (0 <= zeros.mean() <= 255):
        raise QuantizationError(
            f"bytes cannot stand for inputs of scale {preprocessing.scale}, mean {preprocessing.mean}",
            why="the mean lies outside the range of a byte, or a scale is negative",
            hint="--io float32",
        )
    factor, offset = scales / scales[0], scales * (zero - zeros)
    offset = np.where(np.abs(zero - zeros) <= WHOLE * 255, 0.0, offset)
    params = QParams(np.float32(scales[0]), zero + INT8_MIN)
    column = (1, -1, 1, 1)
    folded = _fold(graph, factor.reshape(column), offset.reshape(column), params)
    return ByteInput(graph=folded, params=params, factor=factor.reshape(column), offset=offset.reshape(column))


def _per_channel(p: Preprocessing, channels: int) -> tuple[Doubles, Doubles]:
    std, mean = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (p.std, p.mean))
    return p.scale / std, mean / p.scale


def _fold(graph: Graph, factor: Doubles, offset: Doubles, params: QParams) -> Graph:
    """The graph with ``u * factor + offset`` before its first input, folded into what reads it."""
    if np.all(factor == 1) and not offset.any():
        return graph
    name = graph.inputs[0].name
    graph, inside = _with_inside_channel(graph, factor, offset, params)
    builder = GraphBuilder.like(graph)
    readers = [node for node in graph.nodes if name in node.inputs and node.name != inside]
    added: set[ValueName] = set()
    for node in graph.nodes:
        op = node.op
        if node in readers:  # each has its own factor and summand, which only a sole reader can absorb
            before = len(builder.nodes)
            op = with_inputs(op, {name: _affine(builder, name, factor, offset)})
            added |= {n.name for n in builder.nodes[before:]}
        builder.place(op, node.name, node.origin)
    if any(o.value == name for o in graph.outputs):
        raise _not_folded("the input is an output too")
    folded = apply_rules(builder.build(), (fold_affine_forward, fold_affine_forward))
    left = next((n for n in folded.nodes if n.name not in added and added & set(n.inputs)), None)
    if left is not None:
        padded = isinstance(left.op, Conv2d) and any(left.op.padding)
        why = "a mean that is not an integer byte needs groups=1 in a convolution with padding" if padded else ""
        raise _not_folded(f"{left.describe()} reads the input: " + (why or "it has no weights"))
    return folded


def _affine(builder: GraphBuilder, name: ValueName, factor: Doubles, offset: Doubles) -> ValueName:
    """``u * factor + offset``."""
    value = name
    if not np.all(factor == 1):
        value = builder.add(Mul(x=value, y=builder.constant(f"{name}.factor", factor)), f"{name}.scaled")
    if offset.any():
        value = builder.add(Add(x=value, y=builder.constant(f"{name}.offset", offset)), f"{name}.shifted")
    return value


def _with_inside_channel(
    graph: Graph, factor: Doubles, offset: Doubles, params: QParams
) -> tuple[Graph, ValueName | None]:
    """The graph with padded convolutions that read the input and a channel which is constant inside the image.

    They have factor and offset in their weights. Does not apply without an offset, nor to convolutions in groups.

    Returns:
        The graph, and the name of the input with that channel; None where it does not apply.
    """
    name = graph.inputs[0].name
    wanted = [n for n in graph.nodes if _is_padded(graph, n, name)] if offset.any() else []
    if not wanted:
        return graph, None
    builder = GraphBuilder.like(graph)
    weights = {n.name: graph.constants[n.op.weight].astype(np.float64) for n in wanted if isinstance(n.op, Conv2d)}
    rest = {key: (w * offset).sum(axis=1, keepdims=True) for key, w in weights.items()}
    own = {key: w * factor for key, w in weights.items()}
    steps = _inside_steps(params, max(_steps_wanted(own[key], rest[key], float(params.scale)) for key in own))
    inside = steps * float(params.scale)
    pads = ((0, 0), (0, 1), (0, 0), (0, 0))
    value = builder.add(Pad(x=name, pads=pads, value=inside), f"{name}.{INSIDE}", wanted[0].origin)
    for node in graph.nodes:
        op = node.op
        if node.name in own and isinstance(op, Conv2d):
            joined = np.concatenate([own[node.name], rest[node.name] / inside], axis=1)
            op = replace(op, x=value, weight=builder.constant(f"{node.name}.{INSIDE}.weight", joined))
        builder.place(op, node.name, node.origin)
    return builder.build(), value


def _is_padded(graph: Graph, node: Node, name: ValueName) -> bool:
    match node.op:
        case Conv2d(x=x, weight=weight, groups=1, padding=padding):
            return x == name and weight in graph.constants and any(padding)
    return False


def _steps_wanted(own: Doubles, rest: Doubles, scale: float) -> float:
    """The steps at which no output's weights of the channel exceed its others, so that they widen no scale.

    Fewer steps would cost bits of the other weights. More would make the rounding of these weights count for more.
    """
    largest, needed = (np.abs(w.reshape(len(w), -1)).max(axis=1) for w in (own, rest))
    live = largest > 0
    return float((needed[live] / largest[live]).max(initial=0.0)) / scale


def _inside_steps(params: QParams, wanted: float) -> int:
    """A whole number of steps that a byte can stand above the zero point, or below where there are more."""
    low, high = params.zero_point - INT8_MIN, INT8_MAX - params.zero_point
    steps = int(np.clip(np.ceil(wanted), 1, max(low, high)))
    return steps if steps <= high else -steps


def _not_folded(why: str) -> QuantizationError:
    return QuantizationError(
        "the preprocessing cannot be folded into the first layer exactly",
        why=why,
        hint="--io float32; or a model trained with one integer mean / scale for all channels",
    )
