"""export_model: what is written, that it repeats, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgecnn
from edgecnn.capture.trace import trace_module
from edgecnn.errors import BundleError, CaptureError, DataError, ModelError, UsageError
from edgecnn.models import ZOO, create_model


def _net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()


X = torch.zeros(1, 1, 8, 8)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_bundle_holds_what_it_says(tmp_path) -> None:
    bundle = edgecnn.export_model(_net(), X, tmp_path / "net", name="net")
    assert set(_files(tmp_path / "net")) == {"net.fp32.onnx", "net.fp32.tflite", "manifest.json", "golden.npz"}
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
    program = """
import sys, torch, edgecnn
from edgecnn.models import create_model
torch.manual_seed(0)
edgecnn.export_model(create_model("lenet5").eval(), torch.zeros(1, 1, 28, 28), sys.argv[1])
"""
    for name in "ab":
        environment = {"PYTHONHASHSEED": str(ord(name)), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
        subprocess.run([sys.executable, "-c", program, tmp_path / name], check=True, env=environment)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_right_on_both_runtimes(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    model = create_model(name).eval()
    bundle = edgecnn.export_model(model, torch.zeros(1, *model.input_shape), tmp_path / name)
    report = edgecnn.check_bundle(bundle)
    assert report.passed
    assert len(report.verdicts) == 2


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
        (np.array(["a"]), "numbers|<U1"),
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
        edgecnn.export_model(nn.Sequential(_net(), nn.GELU()).eval(), X, tmp_path / "a")
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


def test_a_model_that_gives_nan_is_refused(tmp_path) -> None:
    class Hot(nn.Module):
        def forward(self, x):
            return (x * 1e38) * 1e38

    with pytest.raises(CaptureError, match="NaN or infinities"):
        edgecnn.export_model(Hot().eval(), torch.zeros(1, 4), tmp_path / "a")


def test_several_inputs_and_outputs(tmp_path) -> None:
    class Two(nn.Module):
        def forward(self, image, scale):
            return {"sum": image + scale, "mean": image.mean((2, 3))}

    bundle = edgecnn.export_model(Two().eval(), (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 1, 1)), tmp_path / "two")
    assert [i.name for i in bundle.manifest.inputs] == ["image", "scale"]
    assert [o.name for o in bundle.manifest.outputs] == ["sum", "mean"]
    assert edgecnn.check_bundle(bundle).passed
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["schema"] == 1
