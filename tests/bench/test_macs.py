"""Multiplications of a file are those of the graph."""

from __future__ import annotations

import pytest
import torch

import edgecnn
from edgecnn.bench.macs import macs_of


@pytest.mark.parametrize("model", ["conv", "depthwise", "linear"])
def test_macs_are_those_of_the_graph(model, tmp_path):
    layers = {
        "conv": torch.nn.Conv2d(4, 6, 3, groups=2),
        "depthwise": torch.nn.Conv2d(4, 8, 3, groups=4),
        "linear": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 64, 5)),
    }
    wanted = {"conv": 36 * 6 * 2 * 9, "depthwise": 36 * 8 * 9, "linear": 256 * 5}
    found = edgecnn.export_model(layers[model].eval(), torch.zeros(1, 4, 8, 8), tmp_path / "net", name="net")
    for artifact in found.artifacts:
        assert macs_of(artifact.format, artifact.read()) == wanted[model], artifact.format
