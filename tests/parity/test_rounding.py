"""The rounding rule of each runtime, and the verdicts that rest on it."""

from __future__ import annotations

import numpy as np
import pytest

import edgecnn
from edgecnn.parity.golden_rules import rounding_of

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("runtime", "options", "rule", "exact"),
    [
        ("onnxruntime", {}, "half_even_fp32", True),
        ("onnxruntime", {"graph_optimization": "basic"}, "half_even_fp32", False),
        ("litert", {"xnnpack": True}, "xnnpack", True),
        ("litert", {"xnnpack": False, "reference_kernels": True}, "litert_reference", True),
        ("litert", {"xnnpack": False}, "tflite_runtime_reference", False),
        ("tflite-runtime", {"xnnpack": True}, "tflite_runtime_reference", False),
        ("tflite-micro", {}, "gemmlowp", True),
    ],
)
def test_rounding(runtime, options, rule, exact) -> None:
    rounding = rounding_of(runtime, options)
    assert (rounding.rule, rounding.exact) == (rule, exact)


def test_reference_kernels_are_held_to_their_own_rounding(saturating_bundle) -> None:
    report = edgecnn.check_bundle(
        saturating_bundle, targets=["litert[reference_kernels=on,xnnpack=off]", "litert[xnnpack=off]"]
    )
    assert report.passed
    assert [(v.metric, v.limit) for v in report.verdicts] == [("lsb_max", 0), ("lsb_mean", 1)]


def test_another_best_class_fails_where_rounding_differs(saturating_bundle) -> None:
    from edgecnn.parity.judge import RunContext, judge
    from edgecnn.parity.measured import Measured

    artifact = saturating_bundle.artifact("tflite", "int8")
    place = RunContext(
        target="tflite-runtime@x",
        runtime="tflite-runtime",
        version="1",
        options={},
        rounding=rounding_of("tflite-runtime", {}),
    )
    for own, passed in (([[10, 9, 0]], True), ([[12, 9, 0]], False)):
        found = Measured(scores=True)
        found.difference.add(np.array([[0.0, 1, 0]]), np.zeros((1, 3)))
        found.add_integers(np.array([[10, 11, 0]]), np.array(own))
        verdict = judge(artifact, place, samples_from="x", reference="torch", output="output", found=found)
        assert verdict.passed is passed
        assert verdict.metric == ("lsb_mean" if passed else "top1_flips")
