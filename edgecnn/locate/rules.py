"""By which rule a runtime's operators are judged one by one, and how far each may be from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgecnn.graph import ops
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import ValueName
from edgecnn.locate.expected import Gap
from edgecnn.locate.reexport import Twin
from edgecnn.parity.exactness import node_is_exact
from edgecnn.targets.runtimes import RUNTIMES, OptionValue
from edgecnn.targets.runtimes.rounding import HALF_EVEN, XNNPACK, RoundingRule

REAL_LIMIT = 1e-5
"""Largest error of one float operator, as a share of its value's range: the limit of a whole fp32 artifact."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What one operator may be off by on golden inputs: at most, and on average; LSB, or shares of a range."""

    largest: float
    mean: float = math.inf


EXACT = Tolerance(0.0)
REAL = Tolerance(REAL_LIMIT)
STEP = Tolerance(1.0, 0.5)
"""Of an integer operator whose rule is not the same in all runtimes."""
TABLE = Tolerance(3.0)
"""Of an int16 operator that kernels look up in a table and interpolate; see `edgecnn.golden.int16`."""
MOVED = (ops.Conv2d, ops.Linear, ops.MaxPool2d, ops.Pad, ops.Reshape, ops.Slice, ops.Transpose, ops.Concat)
"""int16 operators that every kernel computes alike."""
SUMS = (ops.Add, ops.Sub)
LOOKED_UP = (ops.Softmax, ops.LogSoftmax, ops.Sigmoid, ops.Tanh)


def rule_of(precision: str, runtime: str, options: Mapping[str, OptionValue]) -> RoundingRule:
    """Return the rule that a runtime computes a precision by; its descriptor says which."""
    return RUNTIMES[runtime].rounding(precision, options)


def tolerance(twin: Twin, value: ValueName, rounding: RoundingRule) -> Tolerance:
    """What the operator that gives a value may be off by where it reads golden values."""
    node = twin.graph.producers.get(value)
    if twin.int16 is not None:
        return STEP if node is None else _of_int16(node, rounding)
    if twin.quantized is None:
        return REAL
    if not rounding.exact:
        return STEP
    if node is None:
        return EXACT if rounding.rule in (HALF_EVEN.rule, XNNPACK.rule) else STEP
    return EXACT if node_is_exact(twin.quantized, node) else STEP


def _of_int16(node: Node, rounding: RoundingRule) -> Tolerance:
    if isinstance(node.op, MOVED) or (isinstance(node.op, SUMS) and rounding.exact):
        return EXACT
    return TABLE if isinstance(node.op, LOOKED_UP) else STEP


def breaks(gap: Gap, allowed: Tolerance) -> bool:
    """Whether an operator's own error is more than its rule allows."""
    limit = REAL if gap.unit == "range" else allowed
    return not (gap.largest <= limit.largest and gap.mean <= limit.mean)


def is_exact(twin: Twin, rounding: RoundingRule) -> bool:
    """Whether every integer of the whole is to be exactly the golden one."""
    if twin.quantized is None and twin.int16 is None:
        return False
    values = (*(i.name for i in twin.graph.inputs), *twin.graph.producers)
    return all(tolerance(twin, value, rounding) == EXACT for value in values)
