"""uint8 inputs: fold the preprocessing of a camera's bytes exactly into the input's parameters and the first layer.

A model input is ``x = (b * scale - mean) / std`` per channel, where b is a byte; that is ``x = s * (b - z)`` with
``s = scale / std`` and ``z = mean / scale``. If all channels share s, and z is one integer from 0 to 255, x is a uint8
tensor of scale s and zero point z. If channels differ in s, the weights of the first layer absorb the difference. If z
is not an integer or differs, the bias absorbs the rest. That is exact only without padding: a padded cell is x = 0,
which no byte represents.
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
from edgecnn.graph.graph import Graph, GraphBuilder
from edgecnn.graph.ops import Add, Mul, with_inputs
from edgecnn.graph.rewrite import apply_rules
from edgecnn.program.qparams import INT8_MIN, QParams
from edgecnn.types import FloatArray

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
    factor: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

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
    folded = _fold(graph, factor.reshape(column), offset.reshape(column))
    return ByteInput(graph=folded, params=params, factor=factor.reshape(column), offset=offset.reshape(column))


def _per_channel(p: Preprocessing, channels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    std, mean = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (p.std, p.mean))
    return p.scale / std, mean / p.scale


def _fold(graph: Graph, factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Graph:
    """The graph with ``u * factor + offset`` before its first input, folded into what reads it."""
    if np.all(factor == 1) and not offset.any():
        return graph
    builder, name = GraphBuilder.like(graph), graph.inputs[0].name
    value = name
    if not np.all(factor == 1):
        value = builder.add(Mul(x=value, y=builder.constant(f"{name}.factor", factor)), f"{name}.scaled")
    if offset.any():
        value = builder.add(Add(x=value, y=builder.constant(f"{name}.offset", offset)), f"{name}.shifted")
    for node in graph.nodes:
        builder.place(with_inputs(node.op, {name: value}), node.name, node.origin)
    folded = apply_rules(builder.build(), (fold_affine_forward, fold_affine_forward))
    left = [n.name for n in folded.nodes if n.name in (f"{name}.scaled", f"{name}.shifted")]
    if left:
        padded = "a mean that is not an integer byte cannot be folded into a convolution with padding"
        raise QuantizationError(
            "the preprocessing cannot be folded into the first layer exactly",
            why=padded if offset.any() else "the input is read by more than one layer, or by none that has weights",
            hint="--io float32; or a model trained with one integer mean / scale for all channels",
        )
    return folded
