"""ONNX Runtime on its CPU provider."""

from __future__ import annotations

import re
from types import MappingProxyType

from edgecnn.targets.runtimes.rounding_rules import HALF_EVEN, NEARLY_HALF_EVEN, RoundingRule
from edgecnn.targets.runtimes.runtime_descriptor import Option, Options, Profiler, Runtime, SaturationFacts, Wheels

_MACHINES = ("x86_64", "aarch64")


def _rounding(_precision: str, options: Options) -> RoundingRule:
    """It fuses integer operators only from the level ``extended`` on; below, it computes them in float."""
    fused = options.get("graph_optimization", "all") in ("extended", "all")
    return HALF_EVEN if fused else NEARLY_HALF_EVEN


ONNXRUNTIME = Runtime(
    name="onnxruntime",
    title="ONNX Runtime",
    formats=("onnx",),
    module="onnxruntime",
    working_module="onnxruntime",
    distribution="onnxruntime",
    installation="dependency",
    environment=None,
    wheels=(
        Wheels(release="1.31.1", machines=_MACHINES, pythons=((3, 11), (3, 14)), glibc=(2, 28)),
        Wheels(release="1.23.2", machines=_MACHINES, pythons=((3, 10), (3, 10)), glibc=(2, 28)),
        Wheels(release="1.19.2", machines=_MACHINES, pythons=((3, 9), (3, 9)), glibc=(2, 28)),
    ),
    options=MappingProxyType(
        {
            "threads": Option(default=1, highest=256),
            "graph_optimization": Option(default="all", choices=("disable", "basic", "extended", "all")),
            "spinning": Option(default=False),
            "precision": Option(default=True),
        }
    ),
    lacks=MappingProxyType({}),
    rounding=_rounding,
    saturation=SaturationFacts(
        feature="avx2",
        unless=MappingProxyType({"precision": True}),
        session=MappingProxyType({"session.x64quantprecision": "1"}),
        without=MappingProxyType({"precision": False}),
        remedy='set the session option session.x64quantprecision to "1", as edgecnn\'s own sessions do (precision=on);'
        " for programs that cannot, export with --recipe int8-uint8-weights (the same integers) or int8-7bit",
    ),
    deviations=(),
    fixed_batch=False,
    arena=False,
    profiler=Profiler(
        formats=("onnx",),
        method="ONNX Runtime's profiler: whole us, and some us of its own in each operator",
        prefix="fused ",
        suffix=re.compile(r"(_nchwc|_token_\d+|_quant)+$"),
        copies=frozenset(
            ("ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear", "Identity", "Transpose")
        ),
        float_operators=frozenset(
            (
                *("Add", "AveragePool", "Clip", "Conv", "ConvTranspose", "Div", "FusedConv", "Gelu", "Gemm"),
                *("GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "MatMul", "PRelu", "ReduceMean"),
                *("Relu", "Sigmoid", "Softmax", "Sub", "Tanh"),
            )
        ),
        float_layers=frozenset(
            ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "AveragePool", "Add", "Mul", "Sub")
        ),
        float_remedy="graph_optimization=all, or a newer ONNX Runtime",
    ),
    missing_operator=(re.compile(r"find an implementation for (?P<kind>\w+)\(\d+\) node with name '(?P<name>[^']*)'"),),
)
