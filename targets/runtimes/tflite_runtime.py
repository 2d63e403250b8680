"""tflite-runtime 2.14, the last release: still what 32-bit Raspberry Pi OS can have."""

from __future__ import annotations

from types import MappingProxyType

from edgecnn.targets.runtimes.rounding_rules import NEARLY_REFERENCE, RoundingRule
from edgecnn.targets.runtimes.runtime_descriptor import Deviation, EnvironmentSpec, Options, Runtime, Wheels
from edgecnn.targets.runtimes.tflite import ABSENT, NODE_FAILED, OPTIONS, dynamic_rounding, int16_rounding

_NUMPY_1 = "numpy==1.26.4"  # the last before 2; and nothing in it that a shell, or two in a row, would read


def _rounding(precision: str, options: Options) -> RoundingRule:
    """It gives XNNPACK float operators only; its own kernels mix rules and differ between processors."""
    if precision == "int16x8":
        return int16_rounding("rescale15", options)
    if precision == "int8-dynamic":
        return dynamic_rounding(options)
    return NEARLY_REFERENCE


TFLITE_RUNTIME = Runtime(
    name="tflite-runtime",
    title="tflite-runtime",
    formats=("tflite",),
    module="tflite_runtime",
    working_module="tflite_runtime.interpreter",
    distribution="tflite-runtime",
    installation="environment",
    environment=EnvironmentSpec(
        requirements=("tflite-runtime==2.14.0", _NUMPY_1),
        pythons=((3, 11), (3, 10), (3, 9)),
        why="it ends at Python 3.11 and needs numpy 1",
    ),
    wheels=(
        Wheels(
            release="2.14.0",
            machines=("aarch64", "armv7l"),
            pythons=((3, 9), (3, 11)),
            glibc=(2, 34),
            extra_requirements=_NUMPY_1,
        ),
        Wheels(
            release="2.14.0",
            machines=("x86_64",),
            pythons=((3, 9), (3, 11)),
            glibc=(2, 17),
            extra_requirements=_NUMPY_1,
        ),
    ),
    options=OPTIONS,
    lacks=MappingProxyType({"int8-dynamic": "its last release is older than such a file's FULLY_CONNECTED"}),
    rounding=_rounding,
    saturation=None,
    deviations=(
        Deviation(
            machine="armv7l",
            operators=("LOGISTIC", "TANH"),
            unless=MappingProxyType({"reference_kernels": True}),
            error=8.1e-6,
            why="32-bit Arm has no vector division: tflite-runtime's sigmoid and tanh multiply by an estimate of the"
            " reciprocal that is improved once (docs/runtimes.md)",
            hint="[reference_kernels=on,xnnpack=off], or --limit fp32:relative_error=1e-4",
        ),
    ),
    fixed_batch=False,
    arena=False,
    profiler=None,
    missing_operator=(ABSENT, NODE_FAILED),
)
