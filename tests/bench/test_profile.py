"""Profiles by operator: names lead back to modules, and the cuts of a TFLite file run."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.bench.profile import module_of, tflite_cuts


def test_profiles_lead_back_to_modules(report):
    for result in report.results:
        modules = {o.module for o in result.profile.operators}
        assert {"conv", "down", "head"} <= modules, modules
        assert sum(o.share for o in result.profile.operators) == pytest.approx(1)
        assert not any(o.floats for o in result.profile.operators)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("stack.conv", "stack.conv"),
        ("x.q", "x"),
        ("7.flatten.q", "7"),
        ("head.linear", "head.linear"),  # a module of the user's own
        ("classifier.1.linear", "classifier.1"),
        ("lone", "lone"),  # not what operators without a name are called
    ],
)
def test_names_lead_back_to_modules(name, module):
    known = {"stack.conv", "x", "x.q", "7", "7.flatten", "7.flatten.q", "head.linear", "classifier.1", ""}
    assert module_of(name, known) == module


def test_cuts_of_a_tflite_file_run_and_end_with_the_whole(bundle, agent):
    artifact = bundle.artifact("tflite", "int8")
    inputs = [np.ones((1, 12, 12, 1), np.float32)]
    cuts = tflite_cuts(artifact.read())
    assert [c.operator for c in cuts] == [op for op in [c.operator for c in cuts] if op]
    assert sum(artifact.operators.values()) == len(cuts)
    outputs = []
    for data in (cuts[-1].data, artifact.read()):
        with agent.open("litert", data, "cut.tflite") as session:
            outputs.append(session.infer(inputs)[0])
    np.testing.assert_array_equal(*outputs)
    for cut in cuts:
        with agent.open("litert", cut.data, "cut.tflite") as session:
            assert session.infer(inputs)
