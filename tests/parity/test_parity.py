"""Verdicts: what passes, what fails, and that a fault planted in an artifact is found."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

import edgecnn
from edgecnn.data.sources import load_dataset
from edgecnn.errors import BundleError, DataError
from edgecnn.models import create_model
from edgecnn.parity.metrics import Difference, relative_error


def test_relative_error() -> None:
    reference = np.array([[0.0, 10.0]])
    assert relative_error(reference, reference) == 0
    assert relative_error(reference + 0.5, reference) == pytest.approx(0.05)
    assert relative_error(np.array([[0.0]]), np.array([[0.0, 1.0]])) == np.inf
    assert relative_error(np.array([[3.0]]), np.array([[2.0]])) == pytest.approx(0.5)
    assert relative_error(np.array([[0.5]]), np.array([[0.0]])) == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_never_pass(bad: float) -> None:
    good = np.zeros((2, 3))
    for output, reference in ((np.full((2, 3), bad), good), (good, np.full((2, 3), bad))):
        assert not relative_error(output, reference) <= 1e30


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 100))
def test_batches_do_not_matter(samples: int, step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, samples, 4))
    whole, parts = Difference(), Difference()
    whole.add(a, b)
    for i in range(0, samples, step):
        parts.add(a[i : i + step], b[i : i + step])
    sums = ("sum_abs", "sum_squares", "output_squares", "reference_squares", "products")
    for name in sums:
        assert getattr(whole, name) == pytest.approx(getattr(parts, name))
    assert replace(whole, **dict.fromkeys(sums, 0.0)) == replace(parts, **dict.fromkeys(sums, 0.0))
    assert whole.agreed == (a.argmax(1) == b.argmax(1)).sum()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> edgecnn.Bundle:
    torch.manual_seed(0)
    module = create_model("lenet5").eval()
    return edgecnn.export_model(module, torch.zeros(1, 1, 28, 28), tmp_path_factory.mktemp("parity") / "lenet5")


def test_a_good_bundle_passes_everywhere(bundle) -> None:
    seen: list[tuple[int, int]] = []
    report = edgecnn.check_bundle(bundle, progress=lambda _text, done, total: seen.append((done, total)))
    assert report.passed
    assert [(v.artifact, v.runtime) for v in report.verdicts] == [
        ("le_net5.fp32.onnx", "onnxruntime"),
        ("le_net5.fp32.tflite", "litert"),
    ]
    assert all(0 < v.relative_error <= 1e-5 and v.samples == 32 for v in report.verdicts)
    assert seen[-1] == (32, 32)
    assert json.loads(json.dumps(report.as_json()))["passed"] is True


def test_data_against_torch_and_against_the_artifact(bundle, here) -> None:
    data = load_dataset("digits", input_shape=(1, 28, 28))
    reports = [
        edgecnn.check_bundle(bundle, targets=here, data=data, reference=reference)
        for reference in (lambda inputs: [_logits(inputs[0])], None)
    ]
    for report in reports:
        assert report.passed
        assert len(report.verdicts) == 4
        on_data = [v for v in report.verdicts if "digits" in v.samples_from]
        assert all(v.samples == 360 and v.top1_agreement == 1 for v in on_data)
        assert all(v.accuracy == v.reference_accuracy and v.accuracy is not None for v in on_data)
    assert reports[0].verdicts[1].reference == "torch"
    assert reports[1].verdicts[1].reference == "le_net5.fp32.onnx on onnxruntime"


def _logits(images: np.ndarray) -> np.ndarray:
    torch.manual_seed(0)
    module = create_model("lenet5").eval()
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


def test_data_of_another_shape_is_refused(bundle) -> None:
    with pytest.raises(DataError, match="1x8x8"):
        edgecnn.check_bundle(bundle, data=load_dataset("digits", input_shape=None))


def _replace(bundle: edgecnn.Bundle, file: str, data: bytes) -> edgecnn.Bundle:
    """The bundle with another artifact in it, and a manifest that vouches for that."""
    path = bundle.directory / "manifest.json"
    manifest = json.loads(path.read_text())
    for artifact in manifest["artifacts"]:
        if artifact["file"] == file:
            artifact |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (bundle.directory / file).write_bytes(data)
    path.write_text(json.dumps(manifest))
    return edgecnn.load_bundle(bundle.directory)


@pytest.fixture
def small(tmp_path) -> edgecnn.Bundle:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    return edgecnn.export_model(module, torch.zeros(1, 1, 8, 8), tmp_path / "small", name="small")


@pytest.mark.parametrize(
    ("fault", "words"),
    [(lambda w: w * 1.001, "of the range"), (lambda w: w * np.nan, "NaN"), (lambda w: w[::-1].copy(), "of the range")],
    ids=["scaled", "nan", "channels swapped"],
)
def test_a_changed_weight_is_found(small, here, fault, words: str) -> None:
    model = onnx.load_from_string(small.artifact("onnx", "fp32").read())
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(fault(numpy_helper.to_array(weight)), weight.name))
    report = edgecnn.check_bundle(_replace(small, "small.fp32.onnx", model.SerializeToString()), targets=here)
    assert not report.passed
    assert [v.passed for v in report.verdicts] == [False, True]
    assert words in report.verdicts[0].reason


def test_another_models_artifact_is_found(small, bundle) -> None:
    report = edgecnn.check_bundle(_replace(small, "small.fp32.onnx", bundle.artifact("onnx", "fp32").read()))
    assert (report.passed, report.exit_code) == (False, 2)
    assert [(u.target, u.artifact) for u in report.unjudged] == [("onnxruntime@local", "small.fp32.onnx")]


def test_a_file_that_is_no_model_does_not_hide_the_other_verdicts(small) -> None:
    report = edgecnn.check_bundle(_replace(small, "small.fp32.tflite", b"not a model" * 10))
    assert (report.passed, report.exit_code) == (False, 2)
    assert [(v.target, v.passed) for v in report.verdicts] == [("onnxruntime@local", True)]
    assert "small.fp32.tflite on litert" in report.unjudged[0].error.message
    assert json.loads(json.dumps(report.as_json()))["unjudged"][0]["target"] == "litert@local"


def test_a_changed_file_is_an_error(small) -> None:
    path = small.artifact("tflite", "fp32").path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match="changed"):
        edgecnn.check_bundle(small)


def test_a_model_that_fixes_its_batch_is_checked_sample_by_sample(tmp_path, here) -> None:
    class Mixed(nn.Module):
        def forward(self, x):
            return (x.reshape(2, 8) * 2).reshape(1, 16)

    bundle = edgecnn.export_model(Mixed().eval(), torch.zeros(1, 16), tmp_path / "mixed")
    assert not bundle.manifest.batch_resizable
    assert edgecnn.check_bundle(bundle, targets=here).passed


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> edgecnn.Bundle:
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ).eval()  # fmt: skip
    data = np.random.default_rng(0).standard_normal((64, 1, 8, 8), dtype=np.float32)
    folder = tmp_path_factory.mktemp("int8") / "q"
    return edgecnn.export_model(
        module, torch.zeros(1, 1, 8, 8), folder, name="q", precisions=["fp32", "int8"], calibration=data
    )


def test_int8_equals_the_integer_reference_on_both_runtimes(quantized) -> None:
    report = edgecnn.check_bundle(quantized)
    assert report.passed
    int8 = [v for v in report.verdicts if v.precision == "int8"]
    assert [(v.runtime, v.metric, v.value) for v in int8] == [("onnxruntime", "lsb_max", 0), ("litert", "lsb_max", 0)]
    assert all(0 < v.relative_error < 0.05 for v in int8)
    assert quantized.golden().outputs["int8"]["output"].dtype == np.int8


def test_a_wrong_integer_is_found(quantized, tmp_path, here) -> None:
    copy = edgecnn.load_bundle(shutil.copytree(quantized.directory, tmp_path / "copy"))
    model = onnx.load_from_string(copy.artifact("onnx", "int8").read())
    weight = next(i for i in model.graph.initializer if i.name.endswith("weight.q"))
    integers = numpy_helper.to_array(weight).copy()
    integers.flat[0] += 8 if integers.flat[0] < 0 else -8
    weight.CopyFrom(numpy_helper.from_array(integers, weight.name))
    report = edgecnn.check_bundle(_replace(copy, "q.int8.onnx", model.SerializeToString()), targets=here)
    failed = [v for v in report.verdicts if not v.passed]
    assert [(v.artifact, v.metric) for v in failed] == [("q.int8.onnx", "lsb_max")]
    assert "in LSB" in failed[0].reason
