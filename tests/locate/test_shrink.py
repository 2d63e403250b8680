"""A fault made small: fewest layers and samples, the same symptom, and whose fault it is."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.faults import edited_onnx, edited_tflite, onnx_constant, planted, tflite_constant
from support.golden import with_golden_inputs
from support.shared_host import shared_target
from torch import nn

import edgecnn
from edgecnn.bundle import Bundle, load_bundle
from edgecnn.cli import cli
from edgecnn.data.calibration import of_samples
from edgecnn.errors import BundleError, TargetError, UsageError
from edgecnn.locate.ddmin import minimise
from edgecnn.locate.shrink import Symptom, shrink, symptoms
from edgecnn.parity.bundle_check import check_bundle

RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}


class Branches(nn.Module):
    """Two branches that meet, so that a part can have two inputs and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.right, self.scores = nn.Conv2d(8, 8, 1), nn.Linear(512, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        return self.scores((torch.relu(self.left(x)) + torch.relu(self.right(x))).flatten(1))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    torch.manual_seed(0)
    return edgecnn.export_model(
        Branches().eval(),
        torch.zeros(1, 2, 8, 8),
        tmp_path_factory.mktemp("shrink") / "net",
        name="net",
        precisions=("fp32", "int8"),
        calibration=of_samples((np.random.default_rng(0).random((4, 2, 8, 8), np.float32),), "noise"),
    )


@given(st.integers(1, 24), st.data())
def test_delta_debugging_finds_what_is_needed(length: int, data: Any) -> None:
    """It is always a part that fails, of which nothing can be left out; and it keeps the order."""
    needed = data.draw(st.sets(st.integers(0, length - 1), min_size=1))
    asked: list[Sequence[int]] = []

    def fails(part: Sequence[int]) -> bool:
        asked.append(part)
        return needed <= set(part)

    assert minimise(range(length), fails) == sorted(needed)
    assert all(list(part) == sorted(part) for part in asked)


def test_delta_debugging_takes_few_questions_for_one_culprit() -> None:
    asked: list[Sequence[int]] = []
    assert minimise(range(256), lambda part: bool(asked.append(part)) or 77 in part) == [77]
    assert len(asked) <= 2 * 8


def doubled(array: np.ndarray) -> np.ndarray:
    return np.clip(array.astype(np.float64) * 2, -100, 100).astype(array.dtype)


@pytest.mark.parametrize(
    ("form", "precision", "edit"),
    [
        ("onnx", "fp32", onnx_constant("left.weight", doubled)),
        ("onnx", "int8", onnx_constant("left.weight.q", doubled)),
        ("tflite", "fp32", tflite_constant("left.weight", doubled)),
        ("tflite", "int8", tflite_constant("left.weight", doubled)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_weight(form: str, precision: str, edit: Any, bundle, agent, tmp_path: Path) -> None:
    """One layer and one sample are left, cut out of the file, and fail as the whole; a fault of the file."""
    bad = planted(bundle, tmp_path / "bad", form, precision, edit)
    target = shared_target(agent, RUNTIMES[form])
    found = shrink(bad, target, tmp_path / "small")
    assert found.nodes == ("left",)
    assert (found.samples, found.kind, found.symptom) == (1, "cut", Symptom("difference"))
    small = load_bundle(tmp_path / "small")
    assert small.manifest.golden.samples == 1
    assert small.artifacts[0].bytes < bad.artifacts[0].bytes / 2
    report = check_bundle(small, targets=[target])
    assert report.exit_code == 1
    assert report.verdicts[0].reason == found.reason
    assert found.command == f"edgecnn check {tmp_path / 'small'} --target {target.name}"
    assert "the fault is in the file" in found.verdict


def test_a_fault_of_the_runtime(bundle, agent, tmp_path: Path) -> None:
    """A good file on a runtime that adds 1 to a certain layer's result: exported again, that layer shows it too."""
    target = shared_target(BrokenAgent(agent), "litert")
    whole = sorted(symptoms(check_bundle(bundle, targets=[target])))
    assert whole == ["net.fp32.tflite", "net.int8.tflite"]
    found = shrink(bundle, target, tmp_path / "small", artifact="net.fp32.tflite")
    assert found.nodes == ("right",)
    assert (found.kind, found.samples) == ("anew", 1)
    assert "exported again they show it too" in found.verdict


class BrokenAgent:
    """An agent whose runtime is wrong wherever a file has the layer ``right``."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def open(self, runtime: str, artifact: bytes, label: str, **options: Any) -> Any:
        session = self._agent.open(runtime, artifact, label, **options)
        return _BrokenSession(session) if b"right.weight" in artifact else session


class _BrokenSession:
    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def infer(self, inputs: Any, **how: Any) -> Any:
        return [output + 1 for output in self._session.infer(inputs, **how)]

    def infer_each(self, requests: Any, **how: Any) -> Any:
        return ([output + 1 for output in outputs] for outputs in self._session.infer_each(requests, **how))


def test_a_layer_with_two_inputs(bundle, agent, tmp_path: Path) -> None:
    """The sum is at fault: its part reads both branches."""

    def times(model: Any) -> None:
        next(n for n in model.graph.node if n.op_type == "Add").op_type = "Mul"

    bad = planted(bundle, tmp_path / "bad", "onnx", "fp32", edited_onnx(times))
    found = shrink(bad, shared_target(agent, "onnxruntime"), tmp_path / "small")
    assert found.nodes == ("add",)
    assert [i.name for i in found.bundle.manifest.inputs] == ["left", "right"]


def test_a_crash_stays_the_same_crash(bundle, agent, tmp_path: Path) -> None:
    """A file that the runtime refuses is refused in the same words by the part that is left."""

    def no_bias(model: Any) -> None:
        op = model.subgraphs[0].operators[1]
        op.inputs = op.inputs[:1]

    bad = planted(bundle, tmp_path / "bad", "tflite", "fp32", edited_tflite(no_bias))
    target = shared_target(agent, "litert")
    found = shrink(bad, target, tmp_path / "small")
    assert found.symptom.kind == "crash"
    assert symptoms(check_bundle(found.bundle, targets=[target])) == {"net.fp32.tflite": found.symptom}
    assert len(found.nodes) == 1


def test_what_fails_nowhere_is_refused(bundle, agent, tmp_path: Path) -> None:
    target = shared_target(agent, "litert")
    with pytest.raises(UsageError, match="nothing fails on litert@local"):
        shrink(bundle, target, tmp_path / "small")
    with pytest.raises(UsageError, match="no artifact other"):
        shrink(bundle, target, tmp_path / "small", artifact="other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(BundleError, match="is not a bundle"):
        shrink(bundle, target, tmp_path / "full")
    assert not (tmp_path / "small").exists()


def test_a_file_of_another_net_stays_whole(bundle, agent, tmp_path: Path) -> None:
    """It has none of the values between which it could be cut: all layers are left, and one sample."""
    torch.manual_seed(1)
    other = edgecnn.export_model(
        nn.Sequential(nn.Conv2d(2, 4, 8), nn.Flatten()).eval(), torch.zeros(1, 2, 8, 8), tmp_path / "other", name="net"
    )
    data = other.artifact("onnx", "fp32").read()
    bad = planted(bundle, tmp_path / "bad", "onnx", "fp32", lambda _: data)
    found = shrink(bad, shared_target(agent, "onnxruntime"), tmp_path / "small")
    assert (len(found.nodes), found.samples, found.kind) == (found.whole, 1, "cut")


def test_wrong_golden_inputs_cannot_be_made_small(bundle, agent, tmp_path: Path) -> None:
    """No layer is at fault: nothing is written, and it is said why."""
    bad = with_golden_inputs(bundle, tmp_path / "bad", lambda x: x / 2)
    with pytest.raises(TargetError, match="cannot be made smaller"):
        shrink(bad, shared_target(agent, "onnxruntime"), tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_command(tmp_path: Path) -> None:
    """In processes of their own, as a user runs it."""
    net = nn.Sequential(OrderedDict(scores=nn.Linear(4, 3))).eval()
    bundle = edgecnn.export_model(net, torch.zeros(1, 4), tmp_path / "net", name="net", formats=["tflite"])
    bad = planted(bundle, tmp_path / "bad", "tflite", "fp32", tflite_constant("scores.bias", doubled))
    run = CliRunner().invoke(
        cli, ["shrink", str(bad.directory), "--target", "litert", "-o", str(tmp_path / "small"), "--json", "-"]
    )
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert said["layers"] == ["scores"]
    assert said["command"] == f"edgecnn check {tmp_path / 'small'} --target litert@local"
    with pytest.raises(UsageError, match="replace the whole one"):
        CliRunner().invoke(
            cli, ["shrink", str(bad.directory), "--target", "litert", "-o", str(bad.directory)], catch_exceptions=False
        )
