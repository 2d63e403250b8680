"""Detectors are judged by the scores that training has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.verdicts import judged
from torch import nn

import edgecnn
from edgecnn.data.sources import load_dataset
from edgecnn.parity.baseline import against_baseline, baseline_of
from edgecnn.parity.measured import Measured
from edgecnn.parity.scene_scores import SceneScores
from edgecnn.training.tasks import task_of


@pytest.mark.parametrize(("shape", "name"), [((1, 11, 4, 4), "F1"), ((1, 11, 32, 32), "mIoU")])
def test_scores_of_scenes_are_those_of_training(shape, name: str) -> None:
    data = load_dataset("scenes", input_shape=(1, 32, 32)).take(range(12))
    rng = np.random.default_rng(1)
    task = task_of(data, shape)
    truth = np.eye(11)[task.targets(data, np.arange(12))].transpose(0, 3, 1, 2) * 3
    reference = truth + rng.standard_normal(truth.shape)
    output = truth + 2 * rng.standard_normal(truth.shape)
    scores = SceneScores(task, data)
    for part in (slice(0, 5), slice(5, 12)):
        scores.add(output[part], reference[part], np.arange(12)[part])
    for logits, value in ((output, scores.value()), (reference, scores.reference_value())):
        scorer = task.scorer()
        scorer.add(logits, data, np.arange(12))
        assert value == pytest.approx(scorer.scores()[name])
    drop, error = scores.drop()
    assert drop.value == pytest.approx(scores.reference_value() - scores.value())
    assert drop.low < drop.value < drop.high
    assert error > 0
    found = Measured(scene=scores)
    found.difference.add(output, reference)
    verdict = judged(found)
    assert (verdict.metric, verdict.score_name, verdict.drop) == ("score_drop", name, drop.value)


def test_detectors_are_judged_by_f1(tmp_path) -> None:
    torch.manual_seed(0)
    data = load_dataset("scenes", input_shape=(1, 32, 32)).take(range(6))
    module = nn.Conv2d(1, 11, 8, 8).eval()
    bundle = edgecnn.export_model(module, torch.zeros(1, 1, 32, 32), tmp_path / "net", formats=["onnx"])
    report = edgecnn.check_bundle(bundle, data=data, reference=lambda x: [torch_says(module, x[0])])
    assert [(v.score_name, v.score == v.reference_score) for v in report.verdicts] == [("", True), ("F1", True)]
    assert report.baseline_samples[report.verdicts[1].key].counts.shape == (6, 3)
    again = against_baseline(report, baseline_of(report))
    assert again.verdicts == report.verdicts


def torch_says(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()
