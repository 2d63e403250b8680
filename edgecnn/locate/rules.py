"""The rule that a runtime's operators are judged by one by one, and how far each may be from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgecnn.graph import ops
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import ValueName
from edgecnn.graph.traits import traits_of
from edgecnn.locate.expected import Gap
from edgecnn.locate.reexport import Reexport
from edgecnn.parity.exactness import node_is_exact
from edgecnn.targets.runtimes import RUNTIMES, OptionValue
from edgecnn.targets.runtimes.rounding_rules import HALF_EVEN, XNNPACK, RoundingRule

REAL_LIMIT = 1e-5
"""Largest error of one float operator, as a share of its value's range: the limit of a whole fp32 artifact."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far one operator may be off on golden inputs, at most and on average: in LSB, or in shares of a range."""

    largest: float
    mean: float = math.inf


EXACT = Tolerance(0.0)
REAL = Tolerance(REAL_LIMIT)
STEP = Tolerance(1.0, 0.5)
"""The tolerance of integer operators whose rule differs between runtimes."""
TABLE = Tolerance(3.0)
"""The tolerance of int16 operators that kernels look up in a table and interpolate; see `edgecnn.golden.integer16`."""
SUMS = (ops.Add, ops.Sub)
LOOKED_UP = (ops.Softmax, ops.LogSoftmax, ops.Sigmoid, ops.Tanh)


def rule_of(precision: str, runtime: str, options: Mapping[str, OptionValue]) -> RoundingRule:
    """Return the rule that a runtime computes a precision by; its descriptor says which."""
    return RUNTIMES[runtime].rounding(precision, options)


def tolerance(reexport: Reexport, value: ValueName, rounding: RoundingRule) -> Tolerance:
    """What the operator that gives a value may be off by where it reads golden values."""
    node = reexport.graph.producers.get(value)
    if reexport.int16 is not None:
        return STEP if node is None else _of_int16(node, rounding)
    if reexport.quantized is None:
        return REAL
    if not rounding.exact:
        return STEP
    if node is None:
        return EXACT if rounding.rule in (HALF_EVEN.rule, XNNPACK.rule) else STEP
    return EXACT if node_is_exact(reexport.quantized, node) else STEP


def _of_int16(node: Node, rounding: RoundingRule) -> Tolerance:
    if traits_of(node.op).exact or (isinstance(node.op, SUMS) and rounding.exact):
        return EXACT
    return TABLE if isinstance(node.op, LOOKED_UP) else STEP


def breaks(gap: Gap, allowed: Tolerance) -> bool:
    """Whether an operator's own error is more than its rule allows."""
    limit = REAL if gap.unit == "range" else allowed
    return not (gap.largest <= limit.largest and gap.mean <= limit.mean)


def is_exact(reexport: Reexport, rounding: RoundingRule) -> bool:
    """Whether every integer of the whole is to be exactly the golden one."""
    if reexport.quantized is None and reexport.int16 is None:
        return False
    values = (*(i.name for i in reexport.graph.inputs), *reexport.graph.producers)
    return all(tolerance(reexport, value, rounding) == EXACT for value in values)
