"""By which rule a runtime rounds int8, and whose golden vectors hold for a rule that a bundle has none of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgecnn.targets.runtimes import RUNTIMES, OptionValue
from edgecnn.targets.runtimes.rounding_rules import REFERENCE_RULE, RoundingRule

STANDS_FOR: Mapping[str, str] = MappingProxyType(
    {
        "xnnpack": REFERENCE_RULE,
        "gemmlowp": REFERENCE_RULE,
        "litert_reference": "gemmlowp",
        "tflite_runtime_reference": "gemmlowp",
    }
)
"""By rule: the rule of equal values whose golden vectors hold where a bundle has none of its own."""


def rounding_of(runtime: str, options: Mapping[str, OptionValue]) -> RoundingRule:
    """Return the rule that a runtime rounds int8 by under its options."""
    return RUNTIMES[runtime].rounding("int8", options)
