"""What the TFLite interpreters have in common."""

from __future__ import annotations

import re
from types import MappingProxyType

from edgecnn.targets.runtimes.rounding_rules import RoundingRule
from edgecnn.targets.runtimes.runtime_descriptor import Option, Options

OPTIONS = MappingProxyType(
    {
        "threads": Option(default=1, highest=256),
        "xnnpack": Option(default=True),
        "reference_kernels": Option(default=False),
    }
)
"""The options of LiteRT's and tflite-runtime's interpreter."""
ABSENT = re.compile(r"Didn't find op for builtin opcode '(?P<kind>\w+)'(?: version '(?P<version>\d+)')?")
"""How every interpreter says that it has no kernel of an operator, or none of that version."""
NODE_FAILED = re.compile(r"Node number (?P<number>\d+) \((?P<kind>\w+)\) failed to")
"""How LiteRT and tflite-runtime name the node whose kernel has failed."""


def int16_rounding(linear: str, options: Options) -> RoundingRule:
    """The rule of int16x8, which XNNPACK leaves to TFLite's own kernels: sums are exact in reference kernels only.

    Args:
        linear: The rule of linear layers: ``rescale31`` keeps 31 bits of a multiplier, ``rescale15`` keeps 15.
        options: The options in force.
    """
    return RoundingRule(rule=linear, exact=bool(options.get("reference_kernels", False)))


def dynamic_rounding(options: Options) -> RoundingRule:
    """The rule of int8-dynamic: XNNPACK's, or that of TFLite's own kernels where XNNPACK is switched off."""
    return RoundingRule(rule="xnnpack" if options.get("xnnpack", True) else "tflite", exact=False)
