"""``edgecnn predict`` and ``edgecnn check`` on the targets of a user."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from support.sshd import needs_sshd, sshd
from torch import nn

import edgecnn
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import is_built
from edgecnn.targets.emulation.cache import cache_folder

pytestmark = pytest.mark.usefixtures("home")

BOARDS = str(cache_folder().parent)
"""Where the boards are that were built before the tests began."""


def test_predict(run, sides, right) -> None:
    told = run("predict", sides.directory, right)
    assert "right" in told.stdout
    assert "softmax" in told.stdout
    assert "resized from 20x40 to 8x8" in told.stderr
    np.save(right.with_suffix(".npy"), np.pad(np.full((8, 4), 255, np.uint8), ((0, 0), (4, 0))))
    np.savez(right.with_suffix(".npz"), x=np.zeros((2, 8, 8), np.uint8))
    images = [right, right.with_suffix(".npy"), right.with_suffix(".npz")]
    said = run("predict", sides.directory, *images, "--target", "litert", "--json", "-").stdout
    result = json.loads(said)["results"][0]
    assert result["target"] == "litert@local"
    best = [p["best"][0] for p in result["predictions"]]
    assert [b["label"] for b in best[:2]] == ["right", "right"]
    assert [b["score"] for b in best[2:]] == [0.5, 0.5]
    assert best[0]["score"] == pytest.approx(1 / (1 + np.exp(-9)), abs=1e-3)


def test_predict_refuses(run, sides, right, home) -> None:
    for arguments, words in (
        ([home / "no.png"], "there is no file"),
        ([home], "is a folder"),
        ([right, "--precision", "int8"], "no int8 artifact"),
        ([right, "--target", "onnxruntime@pi4"], "edgecnn targets emulate pi4"),
        ([right, "--target", "tflite-micro"], "edgecnn targets setup tflite-micro"),
    ):
        assert words in run("predict", sides.directory, *arguments, code=2).stderr


def test_probabilities_are_left_as_they_are(run, tmp_path, right) -> None:
    class Sure(nn.Module):
        def forward(self, x):
            return torch.softmax(x.mean((2, 3)) * torch.tensor([1.0, 2.0, 0.5]), 1)

    made = edgecnn.export_model(Sure().eval(), torch.zeros(1, 1, 8, 8), tmp_path / "b", name="sure")
    told = run("predict", made.directory, right)
    assert "which are probabilities" in told.stdout
    assert "class 1" in told.stdout
    assert "does not say how its inputs are made" in told.stderr


def test_check_on_targets(run, sides) -> None:
    report = json.loads(run("check", sides.directory, "--target", "litert[xnnpack=off]", "--json", "-").stdout)
    assert [(v["target"], v["options"]["xnnpack"]) for v in report["verdicts"]] == [
        ("litert[xnnpack=off]@local", False)
    ]
    told = run("check", sides.directory, "--target", "@local", "--target", "litert@pi4", code=2)
    assert "onnxruntime@local" in told.stdout
    assert "2 of 2 verdicts passed; 1 could not be judged" in told.stdout
    assert "edgecnn targets emulate pi4" in told.stderr


def test_check_refuses_a_target_with_nothing_to_run(run, tmp_path) -> None:
    made = edgecnn.export_model(nn.ReLU().eval(), torch.zeros(1, 1, 4, 4), tmp_path / "b", formats=["onnx"], name="r")
    assert "r.fp32.onnx" in run("check", made.directory, "--target", "litert", code=2).stderr
    run("check", made.directory, "--target", "@local")


@needs_sshd
def test_the_same_over_ssh(run, sides, right, home) -> None:
    with sshd() as server:
        (home / "project" / "targets.toml").write_text(
            f'[hosts.kitchen]\nssh = "device"\nconfig = "{server.config}"\npython = "{sys.executable}"\n'
        )
        assert json.loads(run("targets", "probe", "kitchen", "--json", "-").stdout)["kind"] == "ssh"
        told = run("check", sides.directory, "--target", "@kitchen", "--target", "litert").stdout
        assert "onnxruntime@kitchen" in told
        assert "passed, 3 of 3 verdicts" in told
        told = run("predict", sides.directory, right, "--target", "litert@kitchen").stdout
        assert "litert@kitchen" in told
        assert "right" in told
        assert "tflite-micro" in run("check", sides.directory, "--target", "tflite-micro@kitchen", code=2).stderr
        server.stop()
        told = run("check", sides.directory, "--target", "@kitchen", "--target", "litert", code=2)
        assert "1 of 1 verdicts passed; 1 could not be judged" in told.stdout
        assert "kitchen could not be judged" in told.stderr


@pytest.mark.skipif(not is_built(load_board("pi4")), reason="make boards, or edgecnn targets emulate pi4")
def test_the_same_on_an_emulated_board(run, sides, right, monkeypatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", BOARDS)
    told = run("check", sides.directory, "--target", "@pi4").stdout
    assert "litert@pi4" in told
    assert "onnxruntime@pi4" in told
    assert "right" in run("predict", sides.directory, right, "--target", "litert@pi4").stdout
