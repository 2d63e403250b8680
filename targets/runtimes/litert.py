"""LiteRT, the successor of tflite-runtime."""

from __future__ import annotations

from types import MappingProxyType

from edgecnn.targets.runtimes.rounding_rules import LITERT_REFERENCE, NEARLY_REFERENCE, XNNPACK, RoundingRule
from edgecnn.targets.runtimes.runtime_descriptor import Options, Runtime, Wheels
from edgecnn.targets.runtimes.tflite import ABSENT, NODE_FAILED, OPTIONS, dynamic_rounding, int16_rounding

_MACHINES = ("x86_64", "aarch64")


def _rounding(precision: str, options: Options) -> RoundingRule:
    """XNNPACK's rule; with XNNPACK switched off that of its reference kernels, or a mixture."""
    if precision == "int16x8":
        return int16_rounding("rescale31", options)
    if precision == "int8-dynamic":
        return dynamic_rounding(options)
    if options.get("xnnpack", True):
        return XNNPACK
    return LITERT_REFERENCE if options.get("reference_kernels", False) else NEARLY_REFERENCE


LITERT = Runtime(
    name="litert",
    title="LiteRT",
    formats=("tflite",),
    module="ai_edge_litert",
    working_module="ai_edge_litert.interpreter",
    distribution="ai-edge-litert",
    installation="dependency",
    environment=None,
    wheels=(
        Wheels(release="2.3.0", machines=_MACHINES, pythons=((3, 10), (3, 14)), glibc=(2, 27)),
        Wheels(release="2.1.0", machines=_MACHINES, pythons=((3, 9), (3, 9)), glibc=(2, 27)),
    ),
    options=OPTIONS,
    lacks=MappingProxyType({}),
    rounding=_rounding,
    saturation=None,
    deviations=(),
    fixed_batch=False,
    arena=False,
    profiler=None,
    missing_operator=(ABSENT, NODE_FAILED),
)
