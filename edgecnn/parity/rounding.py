"""The rule by which a runtime requantizes accumulators to int8, and how exactly the integer reference models it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecnn.targets.runtimes import OptionValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingRule:
    """The rounding rule of a runtime.

    Attributes:
        rule: The closest rule of the integer reference. In a bundle its golden vectors are named ``int8-RULE``.
        exact: Whether the rule models every exact operator bit for bit. Otherwise an operator may be off by 1 in a few
            values, which propagates; such a runtime must agree within one step on average, and in the best classes.
    """

    rule: str
    exact: bool


REFERENCE_RULE = "half_even_fp32"
"""The rule of a bundle's golden vectors ``int8``."""
STANDS_FOR: Mapping[str, str] = MappingProxyType(
    {
        "xnnpack": REFERENCE_RULE,
        "gemmlowp": REFERENCE_RULE,
        "litert_reference": "gemmlowp",
        "tflite_runtime_reference": "gemmlowp",
    }
)
"""For each other rule, the rule whose golden vectors are used if a bundle has none for it: both give equal results."""
HALF_EVEN = RoundingRule(rule=REFERENCE_RULE, exact=True)
XNNPACK = RoundingRule(rule="xnnpack", exact=True)
LITERT_REFERENCE = RoundingRule(rule="litert_reference", exact=True)
REFERENCE_KERNELS = RoundingRule(rule="gemmlowp", exact=True)
NEARLY_HALF_EVEN = RoundingRule(rule=REFERENCE_RULE, exact=False)
NEARLY_REFERENCE = RoundingRule(rule="tflite_runtime_reference", exact=False)


def rounding_of(runtime: str, options: Mapping[str, OptionValue]) -> RoundingRule:
    """How a runtime rounds under its options.

    - onnxruntime fuses integer operators only at level ``extended`` or above; below it computes them in float.
    - litert uses XNNPACK's rule; without XNNPACK it mixes rules, or uses the rule of its reference kernels.
    - tflite-runtime 2.14 delegates only float operators to XNNPACK: it mixes rules, differently on each processor.
    - tflite-micro is compiled from the reference kernels.
    """
    match runtime:
        case "onnxruntime":
            fused = options.get("graph_optimization", "all") in ("extended", "all")
            return HALF_EVEN if fused else NEARLY_HALF_EVEN
        case "litert" if options.get("xnnpack", True):
            return XNNPACK
        case "litert" if options.get("reference_kernels", False):
            return LITERT_REFERENCE
        case "tflite-micro":
            return REFERENCE_KERNELS
    return NEARLY_REFERENCE
