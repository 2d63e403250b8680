"""Saturation on old x86 is named in a verdict, with its cure."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest

from edgecnn.parity.golden_rules import rounding_of
from edgecnn.parity.saturation_reason import explained, saturates
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import Target

pytestmark = pytest.mark.usefixtures("home")


def test_saturation_is_named_with_its_cure(saturating_bundle, monkeypatch) -> None:
    from edgecnn.parity import saturation_reason as saturation
    from edgecnn.parity.judge import RunContext, judge
    from edgecnn.parity.measured import Measured

    artifact = saturating_bundle.artifact("onnx", "int8")
    layers = artifact.spec.quantization.saturating
    assert layers
    found = Measured(scores=True)
    found.difference.add(np.ones((1, 3)), np.zeros((1, 3)))
    found.add_integers(np.array([[9, 0, 0]]), np.array([[0, 0, 9]]))
    place = RunContext(
        target="onnxruntime@old",
        runtime="onnxruntime",
        version="1",
        options={},
        rounding=rounding_of("onnxruntime", {}),
    )
    verdict = judge(artifact, place, samples_from="x", reference="torch", output="output", found=found)
    assert not verdict.passed
    options = MappingProxyType({"precision": False})
    target = Target(runtime="onnxruntime", host=LocalHost(), name="onnxruntime@old", options=options)
    exact = Target(runtime="onnxruntime", host=LocalHost(), name="onnxruntime@old")
    for features, named in (
        (("sse2", "avx2"), True),
        (("sse2",), False),
        (("avx2", "avx512_vnni"), False),
        (("asimd",), False),
        ((), False),
    ):
        monkeypatch.setattr(saturation, "_features", lambda _, features=features: features)
        reason = saturation.saturation_reason(verdict, artifact, target).reason
        assert (explained(layers, "onnxruntime") in reason) is named is saturates(features, "onnxruntime")
        assert saturation.saturation_reason(verdict, artifact, exact) == verdict
    hint = explained(layers, "onnxruntime")
    named = [hint.index(text) for text in ("session.x64quantprecision", "--recipe int8-uint8-weights", "int8-7bit")]
    assert named == sorted(named), "the option first, then what costs nothing in accuracy"
    assert layers[0] in explained(layers, "onnxruntime")
