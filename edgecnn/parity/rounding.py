"""By which rule a runtime makes an accumulator an int8 again, and how far the integer reference describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecnn.targets.runtimes import OptionValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How a runtime rounds.

    Attributes:
        rule: The integer reference's rule that is nearest: ``half_even_fp32`` or ``gemmlowp``.
        exact: Whether the rule describes every exact operator bit for bit. Elsewhere an operator may be off by 1 in a
            few values, which spreads: such a runtime is held to one step on average, and to the best classes.
    """

    rule: str
    exact: bool


HALF_EVEN = Rounding(rule="half_even_fp32", exact=True)
REFERENCE_KERNELS = Rounding(rule="gemmlowp", exact=True)
NEARLY_HALF_EVEN = Rounding(rule="half_even_fp32", exact=False)
NEARLY_REFERENCE = Rounding(rule="gemmlowp", exact=False)


def rounding_of(runtime: str, options: Mapping[str, OptionValue]) -> Rounding:
    """How a runtime rounds under its options.

    - onnxruntime fuses integer operators only from the level ``extended`` on; below it computes them in float.
    - litert has XNNPACK's rule, or with it switched off a mixture, or the reference kernels' own.
    - tflite-runtime 2.14 gives XNNPACK float operators only: a mixture of its own, which differs between processors.
    - tflite-micro is compiled from the reference kernels, with another rule for linear layers.
    """
    match runtime:
        case "onnxruntime":
            fused = options.get("graph_optimization", "all") in ("extended", "all")
            return HALF_EVEN if fused else NEARLY_HALF_EVEN
        case "litert" if options.get("xnnpack", True):
            return HALF_EVEN
        case "litert" if options.get("reference_kernels", False):
            return REFERENCE_KERNELS
    return NEARLY_REFERENCE
