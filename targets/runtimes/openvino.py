"""OpenVINO on its CPU plugin: it reads ONNX and TFLite."""

from __future__ import annotations

import re
from types import MappingProxyType

from edgecnn.targets.runtimes.rounding_rules import NEARLY_HALF_EVEN, RoundingRule
from edgecnn.targets.runtimes.runtime_descriptor import (
    EnvironmentSpec,
    Option,
    Options,
    Profiler,
    Runtime,
    SaturationFacts,
    Wheels,
)


def _rounding(precision: str, _options: Options) -> RoundingRule:
    """It has no rule of its own that is known: it fuses layers, and leaves out roundings between them.

    Its int8 kernels round half to even; without them it computes the integers in float.
    """
    if precision == "int16x8":
        return RoundingRule(rule="rescale31", exact=False)
    return RoundingRule(rule="xnnpack", exact=False) if precision == "int8-dynamic" else NEARLY_HALF_EVEN


OPENVINO = Runtime(
    name="openvino",
    title="OpenVINO",
    formats=("onnx", "tflite"),
    module="openvino",
    working_module="openvino",
    distribution="openvino",
    installation="extra",
    environment=EnvironmentSpec(
        requirements=("openvino==2026.4.1", "openvino-telemetry==2025.2.0", "numpy==2.4.6"),
        pythons=((3, 11), (3, 12), (3, 13), (3, 14), (3, 10)),
        why="beside edgecnn it would take part in every check",
    ),
    wheels=(
        Wheels(release="2026.4.1", machines=("x86_64",), pythons=((3, 10), (3, 14)), glibc=(2, 28)),
        Wheels(release="2026.4.1", machines=("aarch64",), pythons=((3, 10), (3, 14)), glibc=(2, 35)),
        Wheels(release="2025.3.0", machines=("x86_64",), pythons=((3, 9), (3, 9)), glibc=(2, 17)),
        Wheels(release="2025.3.0", machines=("aarch64",), pythons=((3, 9), (3, 9)), glibc=(2, 35)),
    ),
    options=MappingProxyType(
        {
            "threads": Option(default=1, highest=256),
            "precision": Option(default="f32", choices=("f32", "f16", "bf16")),
            "int8_kernels": Option(default=True),
        }
    ),
    lacks=MappingProxyType({}),
    rounding=_rounding,
    saturation=SaturationFacts(
        feature="sse4_1",
        unless=MappingProxyType({"int8_kernels": False}),
        session=MappingProxyType({}),
        without=MappingProxyType({}),
        remedy="int8_kernels=off, or export with --recipe int8-7bit (.onnx files: or int8-uint8-weights)",
    ),
    deviations=(),
    fixed_batch=False,
    arena=False,
    profiler=Profiler(
        formats=("onnx",),
        method="OpenVINO's own counters: whole us, each operator with the kernel that ran it",
        prefix="",
        suffix=re.compile(r"(/WithoutBiases|/DequantizationMultiply)+$"),
        copies=frozenset(),
        float_operators=frozenset(),
        float_layers=frozenset(),
        float_remedy="",
    ),
    missing_operator=(re.compile(r"No conversion rule found for operations: (?:\w+\.)*(?P<kind>\w+)"),),
)
