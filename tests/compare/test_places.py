"""On which targets the two files run, and that one that fails does not lose the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecnn.compare import compare_files
from edgecnn.compare.places import places
from edgecnn.compare.source import read_source
from edgecnn.errors import UsageError


def test_where_the_two_run(alone, targets) -> None:
    sources = {key: read_source(path) for key, path in alone.items()}
    onnx_, tflite = sources["onnx fp32"], sources["tflite fp32"]
    others = [replace(t, name=t.name.replace("local", "there")) for t in targets]

    def pairs(a, b, *given):
        return [(p.a.name, p.b.name) for p in places(a, b, *given).pairs]

    both = [*targets, *others]
    assert pairs(onnx_, onnx_, both, (), ()) == [("onnxruntime@local",) * 2, ("onnxruntime@there",) * 2]
    assert len(pairs(onnx_, tflite, both, (), ())) == 4
    assert pairs(tflite, tflite, targets, (), [others[1]]) == [("litert@local", "litert@there")]
    assert pairs(onnx_, tflite, (), (), ()) == [("onnxruntime@local", "litert@local")]
    named = [replace(t, asked_for=True) for t in targets]
    with pytest.raises(UsageError, match=r"litert@local does not run net\.fp32\.onnx"):
        places(onnx_, onnx_, named, (), ())
    with pytest.raises(UsageError, match="runs on none of litert@local"):
        places(onnx_, tflite, (), [targets[1]], ())
    with pytest.raises(UsageError, match="--target with both"):
        places(onnx_, tflite, targets, targets, targets)


def test_a_target_that_fails_does_not_lose_the_others(alone, targets) -> None:
    crash = replace(targets[0], name="onnxruntime@broken", options={"graph_optimization": "nonsense"})
    report = compare_files(alone["onnx fp32"], alone["onnx int8"], targets=[targets[0], crash])
    assert [c.target_a for c in report.comparisons] == ["onnxruntime@local"]
    assert report.exit_code == 2
    assert report.passed is False
    assert "graph_optimization is 'nonsense'" in report.unjudged[0].error.message
