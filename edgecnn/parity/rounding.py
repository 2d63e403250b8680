"""By which rule a runtime makes an accumulator an int8 again, and how far the integer reference describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecnn.targets.runtimes import OptionValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingRule:
    """How a runtime rounds.

    Attributes:
        rule: The integer reference's rule that is nearest; in a bundle its golden vectors are ``int8-RULE``.
        exact: Whether the rule describes every exact operator bit for bit. Elsewhere an operator may be off by 1 in a
            few values, which spreads: such a runtime is held to one step on average, and to the best classes.
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
"""Other rules, and whose golden vectors hold where a bundle has none of theirs, since they say the same."""
HALF_EVEN = RoundingRule(rule=REFERENCE_RULE, exact=True)
XNNPACK = RoundingRule(rule="xnnpack", exact=True)
LITERT_REFERENCE = RoundingRule(rule="litert_reference", exact=True)
REFERENCE_KERNELS = RoundingRule(rule="gemmlowp", exact=True)
NEARLY_HALF_EVEN = RoundingRule(rule=REFERENCE_RULE, exact=False)
NEARLY_REFERENCE = RoundingRule(rule="tflite_runtime_reference", exact=False)


def rounding_of(runtime: str, options: Mapping[str, OptionValue]) -> RoundingRule:
    """How a runtime rounds under its options.

    - onnxruntime fuses integer operators only from the level ``extended`` on; below it computes them in float.
    - litert has XNNPACK's rule, or with it switched off a mixture, or its reference kernels' own.
    - tflite-runtime 2.14 gives XNNPACK float operators only: a mixture of its own, which differs between processors.
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
