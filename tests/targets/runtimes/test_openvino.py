"""OpenVINO: both formats, its profile, and nothing done silently: other threads, other types, telemetry."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.environments import python_of
from torch import nn

import edgecnn
from edgecnn.bench.bench_job import BenchJob
from edgecnn.bench.profile import profile_job
from edgecnn.errors import TargetError
from edgecnn.parity.runner import stored_inputs
from edgecnn.parity.saturation_reason import can_saturate, explained, saturates
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.runtimes.refusals import NotOfferedError
from edgecnn.targets.target import Target

FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture(scope="module")
def python() -> str:
    found = python_of("openvino")
    if found is None:
        pytest.skip("needs openvino in an environment of its own: make runtimes")
    return found


@pytest.fixture(scope="module")
def target(python) -> Target:
    return Target(runtime="openvino", host=LocalHost(python=python, label="other"), name="openvino@other")


@pytest.fixture(scope="module")
def there(target) -> Iterator[Connection]:
    with target.host.start() as connection:
        yield connection


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> edgecnn.Bundle:
    """Weights of 7 bits, so that it passes on every x86."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4)).eval()
    data = np.random.default_rng(0).random((32, 3, 8, 8), dtype=np.float32)
    folder = tmp_path_factory.mktemp("openvino") / "net"
    options = {"name": "net", "precisions": ["fp32", "int8"], "recipe": "int8-7bit"}
    return edgecnn.export_model(module, torch.zeros(1, 3, 8, 8), folder, calibration=data, **options)


def model(kind: str, batch: int | None = 1) -> bytes:
    shape = [batch, 4]
    values = [onnx.helper.make_tensor_value_info(name, FLOAT, shape) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node(kind, ["x"], ["y"], "node")], "net", values[:1], values[1:])
    ready = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    return ready.SerializeToString()


def test_both_formats_in_both_precisions(bundle, target) -> None:
    report = edgecnn.check_bundle(bundle, targets=[target])
    assert report.passed, [*report.verdicts, *report.unjudged]
    assert len(report.verdicts) == 4
    assert {v.metric for v in report.verdicts if v.precision == "int8"} <= {"top1_flips", "lsb_mean"}


def test_without_its_int8_kernels_it_computes_the_integers(bundle, target) -> None:
    """In float: what is exactly between two integers may come out as either."""
    options = {"int8_kernels": False}
    own = Target(runtime="openvino", host=target.host, name="openvino[int8_kernels=off]@other", options=options)
    verdicts = [v for v in edgecnn.check_bundle(bundle, targets=[own]).verdicts if v.precision == "int8"]
    assert len(verdicts) == 2
    assert all(v.lsb_max <= 1 and v.lsb_mean < 0.05 for v in verdicts)


def test_its_saturation_is_explained(target) -> None:
    assert can_saturate(target)
    assert not RUNTIMES["openvino"].saturates({"int8_kernels": False})
    assert saturates(("sse4_1",), "openvino")
    assert not saturates(("sse4_1",), "onnxruntime")
    assert not saturates(("sse4_1", "avx2", "avx512_vnni"), "openvino")
    assert "OpenVINO adds pairs" in explained(("conv",), "openvino")
    assert "int8_kernels=off" in explained(("conv",), "openvino")


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_profile_leads_back_to_the_modules(bundle, target, form) -> None:
    artifact = bundle.artifact(form, "fp32")
    inputs = [bundle.golden().inputs[i.name][:1] for i in bundle.manifest.inputs]
    stored = stored_inputs(bundle.manifest, artifact, inputs)
    profile = profile_job(BenchJob(artifact=artifact, target=target, threads=1, batch=1, inputs=stored))
    assert {"0", "2"} <= {row.module for row in profile.operators}
    assert sum(row.share for row in profile.operators) == pytest.approx(1)
    assert ("counters" in profile.method) is (form == "onnx")


def test_a_fixed_batch_is_reshaped(there) -> None:
    x = np.array([[-1, 2, -3, 4]] * 3, np.float32)
    with there.open("openvino", model("Relu"), "net.onnx") as session:
        for batch in (1, 3, 2):
            (y,) = session.infer([x[:batch]])
            np.testing.assert_array_equal(y, np.maximum(x[:batch], 0))
        with pytest.raises(TargetError, match="cannot run on empty inputs"):
            session.infer([x[:0]])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 256}, r"OpenVINO takes \d+ threads here, not 256"),
        ({"precision": "f64"}, "precision is 'f64', not one of f32, f16, bf16"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(there, options, said) -> None:
    with pytest.raises(TargetError, match=said):
        there.open("openvino", model("Relu"), "net.onnx", **options)


def test_an_operator_that_it_lacks(there) -> None:
    with pytest.raises(NotOfferedError, match=r"net\.onnx on openvino: Det of float32 is not offered") as caught:
        there.open("openvino", model("Det"), "net.onnx")
    assert caught.value.where == "node, on other"


def test_no_telemetry(python, tmp_path: Path, monkeypatch) -> None:
    """Importing OpenVINO reports that to its makers; in the agent the package that would do so is not imported."""
    note = tmp_path / "imported"
    package = tmp_path / "openvino_telemetry.py"
    package.write_text(f"open({str(note)!r}, 'w').close()\nraise ImportError('not in a test')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with LocalHost(python=python).start() as connection:
        connection.open("openvino", model("Relu"), "net.onnx").close()
    assert not note.exists()
    subprocess.run([python, "-c", "import openvino"], check=True, capture_output=True)
    assert note.exists()
