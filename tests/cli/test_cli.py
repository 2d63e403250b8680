"""The command line as a user meets it: output, exit codes, errors without tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import __version__
from edgecnn.training.fit import DEFAULT_EPOCHS

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.fc = nn.Linear(width * 64, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).flatten(1))

class Odd(nn.Module):
    def forward(self, x):
        return nn.functional.hardshrink(x)
"""


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch) -> Path:
    """The folder that the command runs in."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"__pycache__"}


FORGOTTEN = [
    (["check", "--json", "nowhere"], "has taken 'nowhere' for one"),
    (["check", "--json", "folder"], "which is a folder"),
    (["check", "x", "--json", "--target", "y"], "looks like an option"),
    (["predict", "x", "--json", "five.png", "six.png"], "is not replaced"),
    (["models", "--json"], "requires an argument"),
]


@pytest.mark.parametrize(("arguments", "message"), FORGOTTEN, ids=lambda a: " ".join(a) if isinstance(a, list) else "")
def test_a_forgotten_file_takes_no_argument_in_silence(run, work, arguments, message) -> None:
    (work / "folder").mkdir()
    (work / "five.png").write_bytes(b"\x89PNG")
    assert message in run(*arguments, code=2).stderr
    assert (work / "five.png").read_bytes() == b"\x89PNG"
    assert _names(work) == {"net.py", "folder", "five.png"}


def test_results_go_to_a_file_and_to_people(run, work) -> None:
    told = run("models", "--json", "-").stdout
    printed = run("models", "--json", "deep/models.json").stdout
    assert (work / "deep" / "models.json").read_text() == told
    assert printed == run("models").stdout
    (work / "file").write_bytes(b"")
    assert "is not a folder" in run("models", "--json", "file/models.json", code=2).stderr


def test_train_export_check(run, work) -> None:
    trained = run("train", "lenet5", "--data", "digits", "--epochs", 1, "-o", "w.pt")
    assert "held-out accuracy" in trained.stdout
    exported = run("export", "lenet5", "--weights", "w.pt", "--data", "digits", "-o", "out/lenet5")
    assert "images resized from 8x8 to 28x28" in exported.stderr
    assert "check: passed, 2 of 2" in exported.stdout
    assert _names(work / "out" / "lenet5") == {
        "lenet5.fp32.onnx", "lenet5.fp32.tflite", "manifest.json", "golden.npz", "program.npz",
    }  # fmt: skip
    manifest = json.loads((work / "out" / "lenet5" / "manifest.json").read_text())
    assert manifest["outputs"][0]["class_labels"] == list("0123456789")
    assert manifest["inputs"][0]["preprocessing"]["scale"] == 1 / 16
    assert manifest["source"]["weights"]["file"] == "w.pt"
    checked = run("check", "out/lenet5", "--data", "digits", "--model", "lenet5", "--weights", "w.pt", "--json", "-")
    report = json.loads(checked.stdout)
    assert report["passed"]
    assert {v["samples"] for v in report["verdicts"]} == {32, 360}
    assert all(v["accuracy"] == v["reference_accuracy"] for v in report["verdicts"])


def test_same_seed_same_weights(run, work) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        run("train", "net.py:Net", "--input-shape", "1x8x8", "--data", "digits", "--epochs", 1, "--seed", 5, "-o", name)
    assert (work / "a.safetensors").read_bytes() == (work / "b.safetensors").read_bytes()


def test_own_model_with_arguments(run, work) -> None:
    result = run("export", "net.py:Net", "--arg", "width=6", "--input-shape", "1x8x8", "-o", "net", "--json", "-")
    report = json.loads(result.stdout)
    assert report["check"]["passed"]
    assert {a["format"] for a in report["artifacts"]} == {"onnx", "tflite"}
    assert any("random" in n or "weights" in n for n in report["notes"])


def test_pt2(run, work) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 8, 8),)), work / "p.pt2")
    result = run("export", "p.pt2", "--formats", "tflite", "-o", "out")
    assert "p.fp32.tflite" in result.stdout
    assert _names(work / "out") == {"p.fp32.tflite", "manifest.json", "golden.npz", "program.npz"}


def test_check_fails_with_exit_code_1(run, work) -> None:
    run("export", "net.py:Net", "--input-shape", "1x8x8", "-o", "a", "--no-check", "--arg", "width=4")
    # Another model's reference: the bundle's files are whole, but they do not say what it says.
    result = run("check", "a", "--data", "digits", "--model", "net.py:Net", "--weights", _other_weights(work), code=1)
    assert "FAILED" in result.stdout
    assert "failed: Net.fp32.onnx on onnxruntime" in result.stdout


def _other_weights(work: Path) -> Path:
    torch.manual_seed(99)
    state = {"conv.weight": torch.randn(4, 1, 3, 3), "conv.bias": torch.randn(4),
             "fc.weight": torch.randn(10, 256), "fc.bias": torch.randn(10)}  # fmt: skip
    torch.save(state, work / "other.pt")
    return work / "other.pt"


def test_models_and_show(run, work) -> None:
    assert json.loads(run("models", "--json", "-").stdout)["models"][0]["name"] == "conv_pool"
    assert "conv_pool" in run("models").stdout
    shown = json.loads(run("show", "conv_pool", "--json", "-").stdout)
    assert (shown["parameters"], shown["macs"]) == (50_186, 3_869_824)
    assert "peak activation memory" in run("show", "net.py:Net", "--input-shape", "1x8x8").stdout


def test_version_and_help(run, work) -> None:
    assert run("--version").stdout.strip() == f"edgecnn {__version__}"
    assert f"[default: {DEFAULT_EPOCHS}]" in run("train", "-h").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "conv_pol", "-o", "x"], "conv_pool"),
        (["export", "missing.py:Net", "-o", "x"], "missing.py"),
        (["export", "net.py:Nett", "-o", "x"], "Net"),
        (["export", "net.py:Net", "-o", "x"], "--input-shape"),
        (["export", "net.py:Net", "--input-shape", "1x9x9", "-o", "x"], "does not run on an input of 1x1x9x9"),
        (["export", "net.py:Net", "--input-shape", "8", "-o", "x"], "does not run"),
        (["export", "net.py:Net", "--input-shape", "1xtwo", "-o", "x"], "1xtwo"),
        (["export", "net.py:Odd", "--input-shape", "1x8x8", "-o", "x"], "aten.hardshrink"),
        (["export", "lenet5", "--formats", "caffe", "-o", "x"], "caffe"),
        (["export", "lenet5", "--precisions", "int8", "-o", "x"], "int8"),
        (["export", "lenet5", "--recipe", "int8-7bit", "-o", "x"], "--recipe without int8"),
        (["export", "lenet5", "--calibration", "random", "-o", "x"], "--calibration without int8"),
        (["export", "lenet5", "--calibration-samples", "9", "-o", "x"], "--calibration-samples without int8"),
        (
            ["export", "lenet5", "--precisions", "int8", "--calibration", "random", "--data", "digits", "-o", "x"],
            "--calibration and --data exclude each other",
        ),
        (["export", "lenet5", "--opset", "13", "--formats", "tflite", "-o", "x"], "--opset without onnx"),
        (["export", "lenet5", "--opset", "99", "-o", "x"], "opset 99"),
        (["export", "lenet5", "--weights", "none.pt", "-o", "x"], "none.pt"),
        (["export", "lenet5", "--mean", "0.5", "-o", "x"], "--mean without --data"),
        (["export", "lenet5", "--mean", "half", "--data", "digits", "-o", "x"], "half"),
        (["export", "lenet5", "--data", "npz:none.npz", "-o", "x"], "none.npz"),
        (["export", "lenet5", "--name", "../x", "-o", "x"], "../x"),
        (["export", "lenet5", "-o", "net.py"], "net.py"),
        (["export", "lenet5"], "--output"),
        (["check", "nowhere"], "nowhere"),
        (["check", "."], "manifest"),
        (["train", "lenet5", "--data", "digits", "-o", "w.bin"], "w.bin"),
        (["train", "lenet5", "--data", "digits", "--epochs", "0", "-o", "w.pt"], "--epochs"),
        (["frobnicate"], "frobnicate"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input(run, work, arguments: list[str], words: str) -> None:
    before = _names(work)
    result = run(*arguments, code=2)
    assert words in result.stderr
    assert result.stdout == ""
    assert _names(work) == before


def test_verbose_tells_more(run, work) -> None:
    short = run("export", "net.py:Net", "--input-shape", "1x9x9", "-o", "x", code=2)
    full = run("export", "net.py:Net", "--input-shape", "1x9x9", "-o", "x", "--verbose", code=2)
    assert len(full.stderr) > 2 * len(short.stderr)


def test_output_that_cannot_be_written(work) -> None:
    program = f"{sys.executable} -c 'from edgecnn.cli import main; main()' models"
    environment = {**os.environ, "PYTHONPATH": ":".join(p for p in sys.path if p)}
    for redirect, code, words in (
        (">/dev/full", 2, "cannot be written: No space left"),
        (">&-", 2, "no standard output"),
    ):
        result = subprocess.run(
            f"{program} {redirect}", shell=True, cwd=work, capture_output=True, text=True, check=False, env=environment
        )
        assert (result.returncode, words in result.stderr) == (code, True), result.stderr


def test_what_a_model_prints_is_no_result(run) -> None:
    loud = NET.replace("    def forward(self, x):", "    def forward(self, x):\n        print('loud')", 1)
    Path("loud.py").write_text(loud)
    result = run("export", "loud.py:Net", "--input-shape", "1x8x8", "-o", "x", "--json", "-")
    assert json.loads(result.stdout)["check"]["passed"]
    assert "loud" in result.stderr


def test_labels_that_the_model_cannot_give(run, work) -> None:
    np.savez(work / "d.npz", x=np.zeros((6, 1, 8, 8), np.float32), y=np.array([0, 7, 14] * 2))
    result = run("export", "net.py:Net", "--data", "npz:d.npz", "--input-shape", "1x8x8", "-o", "x", code=2)
    assert "label 14, the model has 10 outputs" in result.stderr


def test_a_closed_pipe_is_no_error(run, work) -> None:
    command = f"{sys.executable} -c 'from edgecnn.cli import main; main()' models | true"
    path = ":".join(p for p in sys.path if p)
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )  # fmt: skip
    assert result.stderr == ""
