"""What each operator is, said once: the properties that quantization, layouts, batches and verdicts depend on.

:data:`TRAITS` has one row per operator class. No property has a default, so that a new operator has to answer every
question; :func:`traits_of` refuses an operator without a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from edgecnn.errors import GraphError
from edgecnn.graph import ops
from edgecnn.graph.ops import Op
from edgecnn.graph.shapes import Shape

Reads = Sequence[tuple[Shape, bool]]
"""The shape of each value that an operator reads, and whether the value depends on an input of the graph."""
KeepsBatch = Callable[[Any, Reads, int], bool]
"""(operator, what it reads, rank of its result) -> whether it keeps the samples of a batch apart."""
Channelwise = Callable[[Any, Sequence[Shape], Shape], bool]
"""(operator, shapes of the computed values it reads, shape of its result) -> whether it works channel by channel."""
CHANNELS = 1
"""The axis of channels."""


class Parameters(StrEnum):
    """Which parameters (scale and zero point) an operator's integer result has."""

    OWN = "own"
    OF_INPUT = "of input"
    """Those of its one input, by TFLite's quantization specification."""
    JOINED = "joined"
    """One set for all inputs and the result. An input whose parameters are prescribed keeps them, and is requantized
    where it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The properties of one operator.

    Attributes:
        parameters: Which parameters its integer result has.
        moves_only: Whether each element of the result is an element of the inputs, or padding: nothing is computed, so
            integers stay as they are.
        keeps_batch: Whether it keeps the samples of a batch apart, so that axis 0 may have any length.
        channelwise: Whether channel c of the result depends only on channel c of what it reads, by the same steps for
            every c, so that channels may be stored in any order. True is a promise, False promises nothing: softmax
            along rows or products of matrices could answer more, but no network gains by it.
        any_layout: Whether it works on a signal (N, C, L) in whatever order the axes are stored, once the axis it names
            is translated. False promises nothing here too.
        exact: Whether all supported runtimes give the same integers. Additions and subtractions are False: that depends
            on their parameters and on the runtime (`edgecnn.parity.exactness`, `edgecnn.locate.rules`).
    """

    parameters: Parameters
    moves_only: bool
    keeps_batch: KeepsBatch
    channelwise: Channelwise
    any_layout: bool
    exact: bool

    @property
    def shares_parameters(self) -> bool:
        """Whether inputs and result have the same parameters."""
        return self.parameters is not Parameters.OWN

    @property
    def joins_parameters(self) -> bool:
        """Whether several inputs have the parameters of the result."""
        return self.parameters is Parameters.JOINED


def traits_of(op: Op) -> Traits:
    """The properties of an operator.

    Raises:
        GraphError: if its class has no row in :data:`TRAITS`. It means a fault in this package.
    """
    if type(op) not in TRAITS:
        raise GraphError(
            f"the operator {type(op).__name__} has no row in edgecnn.graph.traits.TRAITS",
            hint="add one that answers every question",
        )
    return TRAITS[type(op)]


# Rules for batches.


def _always(_op: Op, _reads: Reads, _rank: int) -> bool:
    return True


def _broadcast_keeps_batch(_op: Op, reads: Reads, rank: int) -> bool:
    return all(shape[0] == 1 if len(shape) == rank else not depends for shape, depends in reads)


def _axis_is_not_batch(op: Any, _reads: Reads, _rank: int) -> bool:
    return bool(op.axis != 0)


def _axes_are_not_batch(op: ops.Reduction, _reads: Reads, _rank: int) -> bool:
    return 0 not in op.axes


def _concat_keeps_batch(op: ops.Concat, reads: Reads, _rank: int) -> bool:
    return op.axis != 0 and all(depends for _, depends in reads)


def _reshape_keeps_batch(_op: ops.Reshape, reads: Reads, _rank: int) -> bool:
    return reads[0][0][:1] == (1,)


def _transpose_keeps_batch(op: ops.Transpose, _reads: Reads, _rank: int) -> bool:
    return op.order[0] == 0


def _matmul_keeps_batch(_op: ops.MatMul, reads: Reads, rank: int) -> bool:
    return (rank > 2 and all(shape[0] == 1 for shape, _ in reads)) or not reads[1][1]


def _pad_keeps_batch(op: ops.Pad, _reads: Reads, _rank: int) -> bool:
    return op.pads[0] == (0, 0)


def _linear_keeps_batch(_op: ops.Linear, reads: Reads, _rank: int) -> bool:
    return len(reads[0][0]) > 1


# Rules for channels.


def _never(_op: Op, _shapes: Sequence[Shape], _result: Shape) -> bool:
    return False


def _same_channels(shapes: Sequence[Shape]) -> bool:
    """Whether all values have as many axes and as many channels as the first."""
    first = shapes[0]
    return all(len(s) > CHANNELS and len(s) == len(first) and s[CHANNELS] == first[CHANNELS] for s in shapes)


def _every_channel_by_itself(_op: Op, shapes: Sequence[Shape], result: Shape) -> bool:
    return _same_channels(shapes) and result[:2] == shapes[0][:2] and len(result) == len(shapes[0])


def _is_depthwise(op: ops.Conv2d, shapes: Sequence[Shape], _result: Shape) -> bool:
    return _same_channels(shapes) and 1 < op.groups == shapes[0][CHANNELS]


def _axis_within_channels(op: Any, shapes: Sequence[Shape], _result: Shape) -> bool:
    return _same_channels(shapes) and op.axis > CHANNELS


def _axes_within_channels(op: ops.Reduction, shapes: Sequence[Shape], _result: Shape) -> bool:
    return _same_channels(shapes) and min(op.axes) > CHANNELS


def _concat_within_channels(op: ops.Concat, shapes: Sequence[Shape], _result: Shape) -> bool:
    return _same_channels(shapes) and op.axis not in (0, CHANNELS)


def _pad_leaves_channels(op: ops.Pad, shapes: Sequence[Shape], _result: Shape) -> bool:
    return _same_channels(shapes) and op.pads[CHANNELS] == (0, 0)


def _reshape_leaves_channels(op: ops.Reshape, shapes: Sequence[Shape], _result: Shape) -> bool:
    return _same_channels(shapes) and len(op.to) > CHANNELS and op.to[:2] == shapes[0][:2]


_POINTWISE = Traits(
    parameters=Parameters.OWN,
    moves_only=False,
    keeps_batch=_always,
    channelwise=_every_channel_by_itself,
    any_layout=True,
    exact=False,
)
"""Operators that compute each element from one element."""
_ARITHMETIC = Traits(
    parameters=Parameters.OWN,
    moves_only=False,
    keeps_batch=_broadcast_keeps_batch,
    channelwise=_every_channel_by_itself,
    any_layout=True,
    exact=False,
)
"""Operators that compute each element from two, with broadcasting."""
_EXTREME = Traits(
    parameters=Parameters.JOINED,
    moves_only=True,
    keeps_batch=_broadcast_keeps_batch,
    channelwise=_every_channel_by_itself,
    any_layout=False,
    exact=False,
)
"""The smaller or larger of two values: each element of the result is one of the two."""
_WEIGHTED = Traits(
    parameters=Parameters.OWN,
    moves_only=False,
    keeps_batch=_always,
    channelwise=_never,
    any_layout=False,
    exact=False,
)
_SOFTMAX = Traits(
    parameters=Parameters.OWN,
    moves_only=False,
    keeps_batch=_axis_is_not_batch,
    channelwise=_never,
    any_layout=False,
    exact=False,
)
_SUM_OVER_AXES = Traits(
    parameters=Parameters.OWN,
    moves_only=False,
    keeps_batch=_axes_are_not_batch,
    channelwise=_axes_within_channels,
    any_layout=False,
    exact=False,
)
_EXTREME_OVER_AXES = Traits(
    parameters=Parameters.OF_INPUT,
    moves_only=True,
    keeps_batch=_axes_are_not_batch,
    channelwise=_axes_within_channels,
    any_layout=False,
    exact=False,
)
_PIXELS_AND_CHANNELS = Traits(
    parameters=Parameters.OF_INPUT,
    moves_only=True,
    keeps_batch=_always,
    channelwise=_never,
    any_layout=False,
    exact=False,
)
"""Operators that exchange pixels and channels."""

TRAITS: Mapping[type[Op], Traits] = MappingProxyType(
    {
        ops.Conv2d: Traits(
            parameters=Parameters.OWN,
            moves_only=False,
            keeps_batch=_always,
            channelwise=_is_depthwise,
            any_layout=False,
            exact=True,
        ),
        ops.ConvTranspose2d: _WEIGHTED,
        ops.Linear: Traits(
            parameters=Parameters.OWN,
            moves_only=False,
            keeps_batch=_linear_keeps_batch,
            channelwise=_never,
            any_layout=False,
            exact=True,
        ),
        ops.MatMul: Traits(
            parameters=Parameters.OWN,
            moves_only=False,
            keeps_batch=_matmul_keeps_batch,
            channelwise=_never,
            any_layout=False,
            exact=False,
        ),
        ops.MaxPool2d: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=True,
            keeps_batch=_always,
            channelwise=_every_channel_by_itself,
            any_layout=False,
            exact=True,
        ),
        ops.AvgPool2d: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=False,
            keeps_batch=_always,
            channelwise=_every_channel_by_itself,
            any_layout=False,
            exact=False,
        ),
        ops.Mean: _SUM_OVER_AXES,
        ops.Sum: _SUM_OVER_AXES,
        ops.Amax: _EXTREME_OVER_AXES,
        ops.Amin: _EXTREME_OVER_AXES,
        ops.ArgMax: Traits(
            parameters=Parameters.OWN,
            moves_only=False,
            keeps_batch=_axis_is_not_batch,
            channelwise=_never,
            any_layout=False,
            exact=False,
        ),
        ops.Relu: _POINTWISE,
        ops.Clamp: _POINTWISE,
        ops.Sigmoid: _POINTWISE,
        ops.Tanh: _POINTWISE,
        ops.LeakyRelu: _POINTWISE,
        ops.Elu: _POINTWISE,
        ops.Gelu: _POINTWISE,
        ops.HardSwish: _POINTWISE,
        ops.Softplus: _POINTWISE,
        ops.Abs: _POINTWISE,
        ops.Sign: _POINTWISE,
        ops.Exp: _POINTWISE,
        ops.Log: _POINTWISE,
        ops.Sqrt: _POINTWISE,
        ops.Rsqrt: _POINTWISE,
        ops.Erf: _POINTWISE,
        ops.Pow: _POINTWISE,
        ops.PRelu: _POINTWISE,
        ops.Softmax: _SOFTMAX,
        ops.LogSoftmax: _SOFTMAX,
        ops.Add: _ARITHMETIC,
        ops.Sub: _ARITHMETIC,
        ops.Mul: _ARITHMETIC,
        ops.Div: _ARITHMETIC,
        ops.Minimum: _EXTREME,
        ops.Maximum: _EXTREME,
        ops.Concat: Traits(
            parameters=Parameters.JOINED,
            moves_only=True,
            keeps_batch=_concat_keeps_batch,
            channelwise=_concat_within_channels,
            any_layout=True,
            exact=True,
        ),
        ops.Reshape: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=True,
            keeps_batch=_reshape_keeps_batch,
            channelwise=_reshape_leaves_channels,
            any_layout=False,
            exact=True,
        ),
        ops.Transpose: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=True,
            keeps_batch=_transpose_keeps_batch,
            channelwise=_never,
            any_layout=False,
            exact=True,
        ),
        ops.Pad: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=True,
            keeps_batch=_pad_keeps_batch,
            channelwise=_pad_leaves_channels,
            any_layout=True,
            exact=True,
        ),
        ops.Slice: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=True,
            keeps_batch=_axis_is_not_batch,
            channelwise=_axis_within_channels,
            any_layout=True,
            exact=True,
        ),
        ops.Gather: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=True,
            keeps_batch=_axis_is_not_batch,
            channelwise=_axis_within_channels,
            any_layout=True,
            exact=False,
        ),
        ops.GatherImage: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=True,
            keeps_batch=_always,
            channelwise=_every_channel_by_itself,
            any_layout=False,
            exact=False,
        ),
        ops.DepthToSpace: _PIXELS_AND_CHANNELS,
        ops.SpaceToDepth: _PIXELS_AND_CHANNELS,
        ops.ResizeBilinear: Traits(
            parameters=Parameters.OF_INPUT,
            moves_only=False,
            keeps_batch=_always,
            channelwise=_every_channel_by_itself,
            any_layout=False,
            exact=False,
        ),
    }
)
"""The properties of every operator, by class."""
