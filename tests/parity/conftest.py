"""Bundles that verdicts are given on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import edgecnn


@pytest.fixture(scope="session")
def saturating_bundle(tmp_path_factory) -> edgecnn.Bundle:
    """Large weights and bright inputs, so that pairs of products leave int16."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    data = np.random.default_rng(0).random((64, 1, 8, 8), dtype=np.float32)
    return edgecnn.export_model(
        module,
        torch.zeros(1, 1, 8, 8),
        tmp_path_factory.mktemp("int8") / "q",
        name="q",
        precisions=["int8"],
        calibration=data,
    )
