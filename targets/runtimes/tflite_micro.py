"""TFLite Micro, the interpreter for microcontrollers, on a computer."""

from __future__ import annotations

import re
from types import MappingProxyType

from edgecnn.targets.runtimes.rounding_rules import REFERENCE_KERNELS, RoundingRule
from edgecnn.targets.runtimes.runtime_descriptor import EnvironmentSpec, Option, Options, Runtime, Wheels
from edgecnn.targets.runtimes.tflite import ABSENT

_RELEASE = "0.dev20261023182759"


def _rounding(precision: str, _options: Options) -> RoundingRule:
    """It is compiled from TFLite's reference kernels; in int16 its linear layers keep 15 bits of a multiplier."""
    return RoundingRule(rule="rescale15", exact=True) if precision == "int16x8" else REFERENCE_KERNELS


TFLITE_MICRO = Runtime(
    name="tflite-micro",
    title="TFLite Micro",
    formats=("tflite",),
    module="tflite_micro",
    working_module="tflite_micro.python.tflite_micro.runtime",
    distribution="tflite-micro",
    installation="environment",
    environment=EnvironmentSpec(
        requirements=(
            f"tflite-micro=={_RELEASE}",
            "numpy==2.4.6",
            "flatbuffers==25.12.19",
            "PyYAML==6.0.3",
            "bitarray==3.12.3",
        ),
        pythons=((3, 11), (3, 12), (3, 13), (3, 14)),
        why="it is published as pre-releases only",
    ),
    wheels=(Wheels(release=_RELEASE, machines=("x86_64",), pythons=((3, 10), (3, 14)), glibc=(2, 28)),),
    options=MappingProxyType(
        {"threads": Option(default=1, highest=1), "arena_bytes": Option(default=2**24, highest=2**30)}
    ),
    lacks=MappingProxyType(
        {
            "fp16": "TFLite Micro has no float16 weights",
            "int8-dynamic": "TFLite Micro has no float activations beside int8 weights",
        }
    ),
    rounding=_rounding,
    saturation=None,
    deviations=(),
    fixed_batch=True,
    arena=True,
    profiler=None,
    missing_operator=(ABSENT, re.compile(r"Node (?P<kind>\w+) \(number (?P<number>\d+)\) failed to")),
)
