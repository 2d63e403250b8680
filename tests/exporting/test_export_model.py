"""export_model: what is written, that it repeats, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import nn

import edgecnn
from edgecnn.capture.trace import trace_module
from edgecnn.data.calibration import random_samples
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import (
    BundleError,
    CaptureError,
    DataError,
    ModelError,
    QuantizationError,
    UsageError,
)
from edgecnn.exporting.capture_check import CAPTURE_LIMIT, _graph_error, capture_model, reference_outputs
from edgecnn.models import create_model


def _net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()


X = torch.zeros(1, 1, 8, 8)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_bundle_holds_what_it_says(tmp_path) -> None:
    bundle = edgecnn.export_model(_net(), X, tmp_path / "net", name="net")
    files = {"net.fp32.onnx", "net.fp32.tflite", "manifest.json", "golden.npz", "program.npz"}
    assert set(_files(tmp_path / "net")) == files
    again = edgecnn.load_bundle(tmp_path / "net")
    assert again.manifest == bundle.manifest
    assert bundle.artifact("tflite", "fp32").path == tmp_path / "net" / "net.fp32.tflite"
    golden = bundle.golden()
    assert golden.samples == 32
    with torch.no_grad():
        expected = _net()(torch.from_numpy(golden.inputs["input"])).numpy()
    assert np.allclose(golden.outputs["fp32"]["output"], expected, atol=1e-6)
    assert bundle.manifest.inputs[0].layouts == {"onnx": "NCHW", "tflite": "NHWC"}
    assert {"edgecnn", "torch", "onnx", "ai-edge-litert", "numpy"} <= set(bundle.manifest.versions)


def test_exporting_twice_gives_the_same_bytes(tmp_path) -> None:
    """Here, and in another process whose hashes are others and whose environment is empty."""
    program = """
import sys, torch, edgecnn
from edgecnn.models import create_model
torch.manual_seed(0)
edgecnn.export_model(create_model("lenet5").eval(), torch.zeros(1, 1, 28, 28), sys.argv[1])
"""
    own = os.environ.get("PYTHONHASHSEED", "random")
    seed = {"PYTHONHASHSEED": "98" if own != "98" else "97", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), **seed}
    subprocess.run([sys.executable, "-c", program, tmp_path / "a"], check=True, env=environment)
    torch.manual_seed(0)
    edgecnn.export_model(create_model("lenet5").eval(), torch.zeros(1, 1, 28, 28), tmp_path / "b")
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_a_module_in_train_mode_is_exported_in_eval_mode_and_that_is_said(tmp_path) -> None:
    module = _net().train()
    with pytest.warns(UserWarning, match="eval mode"):
        bundle = edgecnn.export_model(module, X, tmp_path / "net", name="net")
    assert module.training
    assert _files(bundle.directory) == _files(edgecnn.export_model(_net(), X, tmp_path / "b", name="net").directory)


@pytest.mark.parametrize("batch", [1, 3])
def test_an_exported_program(tmp_path, batch: int) -> None:
    program = trace_module(_net(), [X.expand(batch, 1, 8, 8)])
    bundle = edgecnn.export_model(program, None, tmp_path / "program")
    assert bundle.manifest.inputs[0].shape == (1, 1, 8, 8)
    assert bundle.manifest.batch_resizable
    assert edgecnn.check_bundle(bundle).passed


def test_a_program_with_a_dynamic_batch(tmp_path) -> None:
    program = torch.export.export(_net(), (X.expand(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert edgecnn.check_bundle(edgecnn.export_model(program, None, tmp_path / "program")).passed


def test_calibration_gives_the_golden_inputs(tmp_path) -> None:
    data = np.random.default_rng(0).random((100, 1, 8, 8), dtype=np.float32)
    golden = edgecnn.export_model(_net(), X, tmp_path / "a", calibration=data).golden()
    assert golden.samples == 32
    assert np.array_equal(golden.inputs["input"][[0, -1]], data[[0, -1]])
    batches = (torch.from_numpy(data[i : i + 10]) for i in range(0, 100, 10))
    golden = edgecnn.export_model(_net(), X, tmp_path / "b", calibration=batches).golden()
    assert golden.samples == 32
    assert np.array_equal(golden.inputs["input"][[0, -1]], data[[0, -1]])


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (np.zeros((4, 1, 9, 9), np.float32), "shape"),
        (np.full((4, 1, 8, 8), np.nan, np.float32), "NaN"),
        (np.zeros((0, 1, 8, 8), np.float32), "samples"),
        ([], "samples"),
        (np.array(["a"]), "<U1"),
        ([(np.zeros((1, 1, 8, 8)), np.zeros((1, 1)))], "2 inputs"),
    ],
)
def test_calibration_that_does_not_fit(tmp_path, calibration, message: str) -> None:
    with pytest.raises(DataError, match=message):
        edgecnn.export_model(_net(), X, tmp_path / "a", calibration=calibration)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["onnx", "caffe"]}, "caffe"),
        ({"formats": []}, "formats"),
        ({"precisions": ["int3"]}, "int3"),
        ({"name": "a/b"}, "a/b"),
        ({"opset": 7}, "opset 7"),
    ],
)
def test_options_that_are_not_known(tmp_path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        edgecnn.export_model(_net(), X, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("example", [torch.zeros(1, 1, 8, 8, dtype=torch.float64), torch.zeros(()), np.zeros((0, 1))])
def test_example_inputs_that_are_none(tmp_path, example) -> None:
    with pytest.raises(UsageError, match="example input 0"):
        edgecnn.export_model(_net(), example, tmp_path / "a")


def test_nothing_is_lost_when_export_fails(tmp_path) -> None:
    edgecnn.export_model(_net(), X, tmp_path / "a")
    before = _files(tmp_path / "a")
    with pytest.raises(CaptureError):
        edgecnn.export_model(nn.Sequential(_net(), nn.Hardshrink()).eval(), X, tmp_path / "a")
    with pytest.raises(ModelError):
        edgecnn.export_model(_net(), torch.zeros(1, 2, 8, 8), tmp_path / "a")
    assert _files(tmp_path / "a") == before


def test_a_folder_with_other_things_is_kept(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="thesis"):
        edgecnn.export_model(_net(), X, tmp_path / "a")
    edgecnn.export_model(_net(), X, tmp_path / "a", force=True)
    assert not (tmp_path / "a" / "thesis.txt").exists()


def test_a_random_model_is_refused(tmp_path) -> None:
    class Noise(nn.Module):
        calls = 0

        def forward(self, x):
            Noise.calls += 1
            return x * float(Noise.calls)

    with pytest.raises(CaptureError, match="differs from the model"):
        edgecnn.export_model(Noise().eval(), torch.zeros(1, 4), tmp_path / "a")


class Cancelling(nn.Module):
    """A convolution far from 0 that a batch norm brings back: float32 loses five of its seven digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        nn.init.constant_(self.conv.bias, 3000.0)
        self.norm.running_mean.fill_(3000.0)

    def forward(self, x):
        return self.norm(self.conv(x))


def test_a_net_that_magnifies_rounding_is_not_refused() -> None:
    graph, reference = capture_model(Cancelling().eval(), X)
    reference.batch = 1  # torch may round a batch of 32 differently
    samples = random_samples([(1, 1, 8, 8)])
    outputs = reference(samples.inputs)
    assert _graph_error(graph, samples, outputs) > 2 * CAPTURE_LIMIT
    given = reference_outputs(graph, reference, samples)[0]  # sample by sample: torch may round a batch otherwise
    assert np.array_equal(given, reference(samples.inputs)[0])


@pytest.mark.parametrize("wrong", [1.005, 0.98, -1.0])
def test_a_wrong_graph_of_such_a_net_is_refused(wrong: float) -> None:
    graph, reference = capture_model(Cancelling().eval(), X)
    name = max(graph.constants, key=lambda n: graph.constants[n].ndim)
    weights = graph.constants[name].copy()
    weights[0] *= wrong
    other = replace(graph, constants=MappingProxyType({**graph.constants, name: weights}))
    with pytest.raises(CaptureError, match="differs from the model"):
        reference_outputs(other, reference, random_samples([(1, 1, 8, 8)]))


@pytest.mark.parametrize("given", [{"recipe": "int8-7bit"}, {"calibration_samples": 8}, {"calibration": "random"}])
def test_arguments_without_effect_are_refused(tmp_path, given) -> None:
    with pytest.raises(UsageError, match=r"without int8( or int16x8)? has no effect") as caught:
        edgecnn.export_model(_net(), X, tmp_path / "a", **given)
    assert all((caught.value.where, caught.value.why, caught.value.hint))
    assert not (tmp_path / "a").exists()


def test_bytes_are_no_calibration_data(tmp_path) -> None:
    for data in (np.zeros((4, 1, 8, 8), np.uint8), [np.zeros((4, 1, 8, 8), np.uint8)]):
        with pytest.raises(DataError, match="calibration data is uint8") as caught:
            edgecnn.export_model(_net(), X, tmp_path / "a", precisions=["int8"], calibration=data)
        assert "bytes of an image" in caught.value.why
        assert "Preprocessing(" in caught.value.hint
    with pytest.raises(DataError, match="calibration data is int64"):
        edgecnn.export_model(_net(), X, tmp_path / "a", calibration=np.zeros((4, 1, 8, 8), np.int64))


def test_a_model_that_gives_nan_is_refused(tmp_path) -> None:
    class Hot(nn.Module):
        def forward(self, x):
            return (x * 1e38) * 1e38

    with pytest.raises(CaptureError, match="NaN or infinities"):
        edgecnn.export_model(Hot().eval(), torch.zeros(1, 4), tmp_path / "a")


def test_several_inputs_and_outputs(tmp_path, here) -> None:
    class Two(nn.Module):
        def forward(self, image, scale):
            return {"sum": image + scale, "mean": image.mean((2, 3))}

    bundle = edgecnn.export_model(Two().eval(), (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 1, 1)), tmp_path / "two")
    assert [i.name for i in bundle.manifest.inputs] == ["image", "scale"]
    assert [o.name for o in bundle.manifest.outputs] == ["sum", "mean"]
    assert edgecnn.check_bundle(bundle, targets=here).passed
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["schema"] == 1


DATA = np.random.default_rng(1).integers(0, 256, (96, 1, 8, 8)).astype(np.float32)


def _quantized(tmp_path, here=None, **options):
    options = {"precisions": ["fp32", "int8"], "calibration": (DATA - 128) / 64, **options}
    bundle = edgecnn.export_model(_net(), X, tmp_path / "q", name="q", **options)
    report = edgecnn.check_bundle(bundle, targets=here)
    assert report.passed, report.verdicts
    return bundle


def test_every_precision(tmp_path) -> None:
    bundle = _quantized(
        tmp_path, formats=["tflite"], precisions=["fp32", "fp16", "int8", "int8-dynamic", "int16x8"]
    )  # fmt: skip
    assert [a.precision for a in bundle.artifacts] == ["fp32", "fp16", "int8", "int8-dynamic", "int16x8"]
    assert set(bundle.golden().outputs) == {"fp32", "fp16", "int8", "int8-gemmlowp", "int16x8"}
    spec = bundle.artifact("tflite", "int8").spec.quantization
    assert spec is not None
    assert (spec.recipe, spec.samples, spec.exact, spec.io) == ("int8", 96, True, "float32")


@pytest.mark.parametrize("precision", ["int8-dynamic", "int16x8"])
def test_what_onnx_does_not_offer_is_refused_with_the_reason(tmp_path, precision: str) -> None:
    with pytest.raises(UsageError, match=precision) as found:
        _quantized(tmp_path, precisions=[precision])
    assert found.value.why
    assert "tflite" in found.value.hint


def test_int8_without_data_is_refused(tmp_path) -> None:
    with pytest.raises(QuantizationError, match="needs calibration data"):
        edgecnn.export_model(_net(), X, tmp_path / "q", precisions=["int8"])


def test_random_calibration_says_what_it_is_worth(tmp_path, here) -> None:
    bundle = _quantized(tmp_path, here, calibration="random")
    assert any("worth nothing" in n for n in bundle.artifact("onnx", "int8").spec.notes)


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_inputs_and_outputs(tmp_path, io: str, agent, here) -> None:
    bundle = _quantized(tmp_path, here, io=io)
    for form, runtime in (("onnx", "onnxruntime"), ("tflite", "litert")):
        artifact = bundle.artifact(form, "int8")
        with agent.open(runtime, artifact.read(), artifact.path.name) as session:
            assert {t.dtype for t in (*session.inputs, *session.outputs)} == {io}


BYTES = Preprocessing(scale=1 / 255, mean=(51 / 255,), std=(0.3,))


def test_raw_bytes_go_in_exactly(tmp_path, agent, here) -> None:
    """mean is 51 bytes, a whole number: the padded convolution's zeros are byte 51."""
    torch.manual_seed(4)
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)).eval()
    bundle = edgecnn.export_model(
        module, X, tmp_path / "q", name="q", precisions=["fp32", "int8"], io="uint8",
        preprocessing=BYTES, calibration=BYTES.apply(DATA),
    )  # fmt: skip
    assert edgecnn.check_bundle(bundle, targets=here).passed
    artifact = bundle.artifact("tflite", "int8")
    assert artifact.spec.quantization.inputs["input"].zero_point == 51 - 128
    with agent.open("litert", artifact.read(), artifact.path.name) as session:
        (logits,) = session.infer([DATA[:8].astype(np.uint8).transpose(0, 2, 3, 1)])
    with torch.no_grad():
        expected = module(torch.from_numpy(BYTES.apply(DATA[:8]))).numpy()
    scale = artifact.spec.quantization.outputs["output"].scale
    zero = artifact.spec.quantization.outputs["output"].zero_point + 128
    assert np.abs((logits.astype(int) - zero) * scale - expected).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_mean_between_two_bytes(tmp_path, padding: int, here) -> None:
    """The rest goes into the bias, or with padding into the weights of a channel that is constant inside the image."""
    how = Preprocessing(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    raw = np.random.default_rng(2).integers(0, 256, (64, 3, 8, 8)).astype(np.float32)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.ReLU()).eval()
    bundle = edgecnn.export_model(
        module, torch.zeros(1, 3, 8, 8), tmp_path / "q", name="q", precisions=["fp32", "int8"], io="uint8",
        preprocessing=how, calibration=how.apply(raw),
    )  # fmt: skip
    report = edgecnn.check_bundle(bundle, targets=here)
    assert report.passed
    assert all(v.relative_error < 0.03 for v in report.verdicts)


def test_c_array(tmp_path, here) -> None:
    bundle = _quantized(tmp_path, here, c_array=True, class_labels=["a", "b", "c"])
    header, source = (bundle.directory / f for f in ("q.h", "q.cc"))
    assert "alignas(16)" in source.read_text()
    assert "Q_" in header.read_text()
    assert {a.format for a in bundle.artifacts} == {"onnx", "tflite", "c-header", "c-source"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"io": "int4"}, "int4"),
        ({"io": "uint8", "precisions": ["fp32"]}, "io without int8 has no effect"),
        ({"c_array": True, "formats": ["onnx"]}, "c_array without tflite has no effect"),
        ({"recipe": "int9"}, "int9"),
    ],
)
def test_quantization_options_that_mean_nothing(tmp_path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _quantized(tmp_path, **options)
    assert not (tmp_path / "q").exists()
