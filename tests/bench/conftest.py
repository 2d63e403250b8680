"""Small bundles to measure, and one measurement of all of their artifacts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.bench_records import QUICK

import edgecnn
from edgecnn.bench.measure_bundle import bench_bundle


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.down = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.down(torch.relu(self.conv(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(size=(64, 1, 12, 12)).astype(np.float32)
    return edgecnn.export_model(
        Net().eval(),
        torch.zeros(1, 1, 12, 12),
        tmp_path_factory.mktemp("bench") / "net",
        name="net",
        precisions=["fp32", "int8"],
        calibration=images,
    )


@pytest.fixture(scope="session")
def report(bundle):
    return bench_bundle(bundle, limits=QUICK, profile=True)
