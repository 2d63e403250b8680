"""``edgecnn check`` with limits, a baseline and golden vectors alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import edgecnn
from edgecnn.cli import cli
from edgecnn.data.sources import load_dataset
from edgecnn.errors import UsageError
from edgecnn.parity.limits import Limits


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> edgecnn.Bundle:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)).eval()
    data = load_dataset("digits", input_shape=(1, 8, 8)).batch(range(64))
    return edgecnn.export_model(
        module,
        torch.zeros(1, 1, 8, 8),
        tmp_path_factory.mktemp("verdicts") / "net",
        name="net",
        formats=["onnx"],
        precisions=["fp32", "int8"],
        calibration=data,
    )


def test_the_command_with_limits_and_a_baseline(bundle, tmp_path, run) -> None:
    data, saved = ("--data", "digits"), tmp_path / "b.json"
    out, _ = run("check", bundle.directory, *data, "--save-baseline", saved)
    assert saved.exists()
    assert all(len(line) <= 100 for line in out.splitlines() if not line.startswith(("undecided", "failed")))
    assert "limits: fp32 relative_error <= 1e-05" in out
    limits = ("--limit", "int8:rmse=1e-9", "--limit", "fp32:accuracy_drop=0.0001", "--undecided", "fail", "--json", "-")
    told = run("check", bundle.directory, *data, "--baseline", saved, *limits, "--json", "-", code=1).json
    assert told["schema"] == 2
    failed = {(v["precision"], v["metric"], v["outcome"]) for v in told["verdicts"] if not v["passed"]}
    assert failed == {("int8", "rmse", "failed"), ("fp32", "accuracy_drop", "undecided")}
    assert all(v["worse"] == [] for v in told["verdicts"])
    spoiled = json.loads(saved.read_text())
    for entry in spoiled["entries"]:
        entry["metrics"]["rmse"] = 0.0
    saved.write_text(json.dumps(spoiled))
    out, err = run("check", bundle.directory, "--baseline", saved, "--save-baseline", saved, code=1)
    assert "in the baseline 0" in out
    assert "worst samples: no. " in out
    assert "not written" in err
    assert json.loads(saved.read_text()) == spoiled


def test_a_limit_that_nothing_is_held_to_is_no_pass(bundle, run) -> None:
    out, err = run("check", bundle.directory, "--limit", "accuracy_drop=0.01", code=2)
    assert "the limit accuracy_drop matches no artifact" in err
    assert "--data" in err
    assert "incomplete" in out
    _, err = run("check", bundle.directory, "--limit", "fp16:rmse=1", code=2)
    assert "the bundle has fp32, int8" in err
    table = Limits.of({"accuracy_drop": 0.01, "fp16": {"rmse": 1}})
    with pytest.raises(UsageError, match="the limit fp16:rmse matches no artifact"):
        edgecnn.check_bundle(bundle, limits=table)
    lenient = edgecnn.check_bundle(bundle, limits=table.for_all())
    assert lenient.passed
    assert lenient.idle == (("", "accuracy_drop"), ("fp16", "rmse"))


def test_golden_vectors_alone_are_enough(bundle, tmp_path) -> None:
    """A bundle is checked on another machine from what is in its folder: no torch, no data."""
    copy = edgecnn.load_bundle(shutil.copytree(bundle.directory, tmp_path / "there"))
    assert {p.name for p in copy.directory.iterdir()} >= {"golden.npz", "manifest.json"}
    here, there = edgecnn.check_bundle(bundle), edgecnn.check_bundle(copy)
    assert there.passed
    assert here.verdicts == there.verdicts
    assert {v.reference for v in there.verdicts} == {"torch"}


def test_help_names_the_choices() -> None:
    told = CliRunner().invoke(cli, ["check", "-h"]).output
    for word in ("--limit", "--undecided", "--baseline", "--save-baseline", "estimate"):
        assert word in told
