"""Rules by which runtimes turn an int32 accumulator into an int8 or int16 value again."""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE_RULE = "half_even_fp32"
"""The rule of the golden vectors that every bundle has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingRule:
    """The rule that a runtime's integer kernels round by.

    Attributes:
        rule: The rule of the integer reference (`edgecnn.golden`) that is nearest; a bundle calls its golden vectors
            ``int8-RULE``.
        exact: Whether the rule describes every exact operator bit for bit. If not, an operator may be off by 1 in a
            few values, and the difference spreads: such a runtime is held to one step on average, and to the best
            classes.
    """

    rule: str
    exact: bool


HALF_EVEN = RoundingRule(rule=REFERENCE_RULE, exact=True)
NEARLY_HALF_EVEN = RoundingRule(rule=REFERENCE_RULE, exact=False)
XNNPACK = RoundingRule(rule="xnnpack", exact=True)
LITERT_REFERENCE = RoundingRule(rule="litert_reference", exact=True)
REFERENCE_KERNELS = RoundingRule(rule="gemmlowp", exact=True)
NEARLY_REFERENCE = RoundingRule(rule="tflite_runtime_reference", exact=False)
