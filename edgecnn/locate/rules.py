"""By which rule a runtime's operators are judged one by one."""

from __future__ import annotations

from edgecnn.graph.ops import ValueName
from edgecnn.locate.expected import Gap
from edgecnn.locate.twin import Twin
from edgecnn.parity.exactness import node_is_exact
from edgecnn.parity.rounding import HALF_EVEN, XNNPACK, Rounding

REAL_LIMIT = 1e-5
"""Largest error of one float operator, as a share of its value's range: the limit of a whole fp32 artifact."""
STEP = 1.0
"""Largest error in LSB of an integer operator whose rule is not the same in all runtimes."""
MEAN_STEP = 0.5
"""Largest mean of that."""


def is_exact(twin: Twin, value: ValueName, rounding: Rounding) -> bool:
    """Whether a value's integers are to be exactly the golden ones where its operator reads golden ones."""
    if twin.quantized is None or not rounding.exact:
        return False
    node = twin.graph.producers.get(value)
    return rounding.rule in (HALF_EVEN.rule, XNNPACK.rule) if node is None else node_is_exact(twin.quantized, node)


def breaks(gap: Gap, *, exact: bool) -> bool:
    """Whether an operator's own error is more than its rule allows."""
    if gap.unit == "range":
        return not gap.largest <= REAL_LIMIT
    return gap.largest > 0 if exact else gap.largest > STEP or gap.mean > MEAN_STEP
