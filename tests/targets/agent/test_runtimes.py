"""The runtimes of an agent: what they compute, their options, and what they refuse."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from support.artifacts import GOOD, MODELS, NAMES, dequantize_model, onnx_model, tflite_model
from support.processes import running

from edgecnn.errors import TargetError
from edgecnn.targets.agent import messages
from edgecnn.targets.agent.runtime_table import RUNTIME_TABLE
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.hosts.replies import Quantization
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for


@pytest.fixture(scope="module")
def local():
    with LocalHost().start() as connection:
        yield connection
    assert not running(connection.pid)


OPTION_SETS = [
    ("onnxruntime", {}),
    ("onnxruntime", {"threads": 2, "spinning": True}),
    *[("onnxruntime", {"graph_optimization": level}) for level in ("disable", "basic", "extended", "all")],
    ("litert", {}),
    ("litert", {"threads": 2}),
    ("litert", {"xnnpack": False}),
    ("litert", {"xnnpack": False, "reference_kernels": True}),
]


def test_hello(local):
    info = local.hello()
    assert info.protocol == messages.PROTOCOL
    assert info.python == sys.version.split()[0]
    assert info.numpy == np.__version__
    assert info.machine == os.uname().machine
    assert {"onnxruntime", "litert"} <= set(info.runtimes) <= set(RUNTIMES)
    assert info.runtimes["litert"]


@pytest.mark.parametrize(("runtime", "options"), OPTION_SETS, ids=str)
def test_runs_and_resizes(local, runtime, options):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 8, 4)).astype(np.float32)
    with local.open(runtime, MODELS[runtime](), f"two on {runtime}", **options) as session:
        assert [item.name for item in session.inputs] == ["right", "left"]
        assert [item.name for item in session.outputs] == ["sum", "relu"]
        assert set(session.options) == set(RUNTIMES[runtime].options)
        assert options.items() <= session.options.items()
        for batch in (1, 8, 8, 3, 1):
            total, relu = session.infer([right[:batch], left[:batch]])
            np.testing.assert_array_equal(total, left[:batch] + right[:batch])
            np.testing.assert_array_equal(relu, np.maximum(left[:batch], 0))


@pytest.mark.parametrize("runtime", MODELS)
def test_inputs_by_name(local, runtime):
    left, right = np.full((1, 4), -1, np.float32), np.full((1, 4), 5, np.float32)
    session = local.open(runtime, MODELS[runtime](), "two")
    for inputs in ({"left": left, "right": right}, {"right": right, "left": left}):
        total, relu = session.infer(inputs)
        assert (total == 4).all()
        assert (relu == 0).all()


@pytest.mark.parametrize(
    ("signature", "names"),
    [
        ((), ["t1", "t0"]),
        ((("own", NAMES),), ["right", "left"]),
        ((("other", {"a": 0, "b": 1, "c": 2, "d": 3}), ("serving_default", NAMES)), ["right", "left"]),
        ((("serving_default", {"left": 0, "sum": 2}),), ["t1", "t0"]),
    ],
    ids=["none", "one", "two", "incomplete"],
)
def test_tflite_names(local, signature, names):
    assert [item.name for item in local.open("litert", tflite_model(signature), "two.tflite").inputs] == names


def test_quantization_is_described(local):
    session = local.open("litert", dequantize_model(), "q.tflite")
    (given,), (real,) = session.inputs, session.outputs
    assert (given.dtype, given.shape, given.quantization) == ("int8", (1, 4), Quantization(scale=0.5, zero_point=3))
    assert (real.dtype, real.quantization) == ("float32", None)
    (output,) = session.infer([np.array([[3, 4, 5, -128]], np.int8)])
    np.testing.assert_array_equal(output, [[0, 0.5, 1, -65.5]])


def test_onnx_batch_is_open(local):
    assert [item.shape for item in local.open("onnxruntime", onnx_model(), "two.onnx").inputs] == [(None, 4)] * 2


@pytest.mark.parametrize("runtime", MODELS)
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (GOOD[:1], "1 inputs are given, the artifact has 2"),
        ([GOOD[0], np.zeros((1, 4))], "input left is float32; float64 is given"),
        ([GOOD[0], np.zeros((1, 5), np.float32)], r"input left has the shape \((1|any), 4\); \(1, 5\) is given"),
        ([GOOD[0], np.zeros(4, np.float32)], "input left has the shape"),
        ({"left": GOOD[0], "up": GOOD[0]}, "the inputs are named"),
        ([np.zeros((2, 4), np.float32), np.zeros((3, 4), np.float32)], "two.file on"),
        ([GOOD[0], np.zeros((1, 4), np.complex64)], "the request cannot be sent"),
    ],
    ids=["number", "type", "size", "rank", "name", "batches", "unsendable"],
)
def test_wrong_inputs_are_refused_and_it_goes_on(local, runtime, inputs, words):
    session = local.open(runtime, MODELS[runtime](), "two.file")
    with pytest.raises(TargetError, match=words):
        session.infer(inputs)
    assert len(session.infer(GOOD)) == 2


def test_empty_batch_is_refused_by_tflite(local):
    with pytest.raises(TargetError, match="cannot run on empty inputs"):
        local.open("litert", tflite_model(), "two.tflite").infer([np.zeros((0, 4), np.float32)] * 2)


@pytest.mark.parametrize(
    ("runtime", "options", "words"),
    [
        ("litert", {"graph_optimization": "all"}, "litert has no option 'graph_optimization'"),
        ("onnxruntime", {"xnnpack": True}, "onnxruntime has no option 'xnnpack'"),
        ("onnxruntime", {"graph_optimization": "most"}, "not one of disable, basic, extended, all"),
        ("onnxruntime", {"threads": 0}, "not from 1 to 256"),
        ("litert", {"xnnpack": 1}, "not of type bool"),
        ("litert", {"reference_kernels": True}, "give xnnpack=False with it"),
        ("fastest", {}, "unknown runtime 'fastest'"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(local, runtime, options, words):
    with pytest.raises(TargetError, match=words):
        local.open(runtime, MODELS.get(runtime, onnx_model)(), "two", **options)


@pytest.mark.parametrize("runtime", MODELS)
@pytest.mark.parametrize("artifact", [b"no artifact at all", b""])
def test_not_an_artifact(local, runtime, artifact):
    with pytest.raises(TargetError, match=rf"bad.file on {runtime}: ") as caught:
        local.open(runtime, artifact, "bad.file")
    assert "Traceback" in caught.value.detail
    assert local.hello()


def test_closed_sessions(local):
    session = local.open("onnxruntime", onnx_model(), "two.onnx")
    session.close()
    session.close()
    with pytest.raises(TargetError, match="there is no session"):
        session.infer(GOOD)


def test_tables_agree():
    """The agent imports nothing of the host, so the host's table repeats a part of its table."""
    theirs = {name: (row.module, row.distribution, row.options) for name, row in RUNTIME_TABLE.items()}
    assert theirs == {
        name: (row.module, row.distribution, {key: option.default for key, option in row.options.items()})
        for name, row in RUNTIMES.items()
    }
    assert all(option.accepts(option.default) for row in RUNTIMES.values() for option in row.options.values())
    assert [row.name for row in runtimes_for("onnx")] == ["onnxruntime", "openvino"]
    assert [row.name for row in runtimes_for("tflite")] == ["litert", "tflite-runtime", "tflite-micro", "openvino"]
    assert runtimes_for("c") == ()
