"""int16 activations and int8 weights: the integer program of an int16x8 file.

Activations are symmetric with zero point 0; their scales follow from the largest observed magnitude. Weights are int8
with a scale per output channel, biases int64 (the 16x8 mode of the TFLite quantization specification). With 65,535
steps clipping gains nothing, so there is no choice of calibrators, and scales leave room for values larger than those
observed.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgecnn.errors import QuantizationError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Activation, Add, Clamp, Mul, Reshape, Sigmoid, Softmax, Sub, Tanh, ValueName
from edgecnn.graph.traits import traits_of
from edgecnn.program.quantized import constant_operands
from edgecnn.program.quantized16 import INT16_MAX, RELUS, QuantizedGraph16, scale_of_reach, with_scales
from edgecnn.quantize.observer import Observer
from edgecnn.quantize.quantize import NO_INT8_FORM

HEADROOM = 2.0
"""The largest magnitude that a tensor can hold, as a multiple of the largest observed one. It costs one bit, which is
negligible next to the rounding of weights to 8 bits. A single saturated value in new data can cost more than int8."""
FIXED = (Softmax, Sigmoid, Tanh)
"""Operators whose result has the scale 1/32768, by the specification."""
FIXED_REACH = INT16_MAX / 32768
ADD_SHIFT = 15
"""Fraction bits of additions (``left_shift`` in tensorflow/lite/kernels/add.cc)."""


def quantize_int16(graph: Graph, observers: Mapping[ValueName, Observer]) -> QuantizedGraph16:
    """Quantize a graph to int16 activations and int8 weights by ranges observed on calibration data.

    Args:
        graph: The graph, prepared by :func:`edgecnn.quantize.prepare.prepare`.
        observers: The observer of each value.

    Raises:
        QuantizationError: if an operator has no int16 form, scales contradict, or weights or biases do not fit.
    """
    reaches = {i.name: _reach(observers[i.name].low, observers[i.name].high) for i in graph.inputs}
    for node in graph.nodes:
        if type(node.op) in NO_INT8_FORM:
            reason = NO_INT8_FORM[type(node.op)][0].replace("int8", "int16")
            raise QuantizationError(f"{node.describe()}: {reason}", hint="--precisions fp16")
        _check_operands(graph, node)
        _check_batch_axis(graph, node)
        low, high = _clamped(node, observers[node.name])
        reaches[node.name] = FIXED_REACH if isinstance(node.op, FIXED) else _reach(low, high)
    _unite(graph, reaches)
    scales = {name: scale_of_reach(reach) for name, reach in reaches.items()}
    quantized = with_scales(graph, scales)
    _check_additions(quantized)
    return quantized


def _check_operands(graph: Graph, node: Node) -> None:
    """Refuse constants that no int16 kernel reads: slopes of PReLUs, and what is compared, joined or multiplied."""
    constants = constant_operands(graph, node)
    if constants and not isinstance(node.op, Add | Sub | Mul):
        raise QuantizationError(
            f"{node.describe()}: it reads the constant {constants[0]}, which has no int16 form",
            where=node.origin.source,
            why="int16x8 holds constants as operands of additions, subtractions and multiplications only",
            hint="--precisions int8 or fp16",
        )


def _check_batch_axis(graph: Graph, node: Node) -> None:
    """Refuse values without a batch axis: the golden executor takes axis 0 of what a node reads for the samples."""
    read = next(graph.shapes[i] for i in node.inputs if i not in graph.constants)
    unfolds = isinstance(node.op, Reshape) and read[:1] > (1,) and node.shape[:1] == (1,)
    if unfolds or (not read and not isinstance(node.op, Add | Sub)):
        raise QuantizationError(
            f"{node.describe()}: it reads a value of shape {read}, whose first axis is not the batch",
            where=node.origin.source,
            why="int16x8 programs are executed with the samples along axis 0",
            hint="--precisions int8 or fp16, or a model that keeps the batch as its first axis",
        )


def _unite(graph: Graph, reaches: dict[ValueName, float]) -> None:
    """Give values that share a scale one reach, the largest of theirs; repeat until nothing changes."""
    before: dict[ValueName, float] = {}
    while before != reaches:
        before = dict(reaches)
        for node in graph.nodes:
            if _keeps_scale(node):
                names = (node.name, *(i for i in node.inputs if i in reaches))
                reaches.update(dict.fromkeys(names, max(reaches[n] for n in names)))
    for node in graph.nodes:
        if isinstance(node.op, FIXED) and reaches[node.name] > FIXED_REACH:
            raise QuantizationError(
                f"{node.describe()} has a prescribed scale, and shares it with larger values",
                hint="concatenate before the activation, not after it",
            )


def _keeps_scale(node: Node) -> bool:
    if isinstance(node.op, Clamp):
        return (node.op.low, node.op.high) not in RELUS
    return traits_of(node.op).shares_parameters


def _clamped(node: Node, observer: Observer) -> tuple[float, float]:
    activation: Activation = getattr(node.op, "activation", Activation.NONE)
    low, high = (node.op.low, node.op.high) if isinstance(node.op, Clamp) else activation.bounds
    return max(observer.low, low), min(observer.high, high)


def _reach(low: float, high: float) -> float:
    """The largest magnitude that a value observed in a range must be able to represent."""
    return max(abs(low), abs(high)) * HEADROOM


def _check_additions(q: QuantizedGraph16) -> None:
    """Refuse sums whose scale is too small: kernels rescale a sum by a multiplier below 1, and abort otherwise."""
    for node in q.graph.nodes:
        if isinstance(node.op, Add | Sub):
            inputs = [float(q.activations[i].scale) for i in node.inputs]
            if 2 * max(inputs) >= (1 << ADD_SHIFT) * float(q.activations[node.name].scale):
                raise QuantizationError(
                    f"{node.describe()}: the sum is too small compared with its operands",
                    why=f"int16 kernels take sums down to 2^-{ADD_SHIFT - 1} of the larger operand's range",
                    hint="--precisions int8 or fp16, or a model that does not cancel large values",
                )
