"""What a first lesson on CNNs computes by hand, on every runtime that is here, in float and in int8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import edgecnn
from edgecnn.data.calibration import of_samples
from edgecnn.parity.runner import Runner
from edgecnn.targets.runtimes import runtimes_for

MATRIX = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
POOLED = [[6, 8], [14, 16]]
STEP = 16 / 255
"""Of the integers that stand for 0 to 16."""


def answers(agent, here, module, x, folder):
    """What every artifact says on every runtime, with its precision."""
    bundle = edgecnn.export_model(
        module.eval(), torch.from_numpy(x[:1]), folder, precisions=["fp32", "int8"], name="lesson",
        calibration=of_samples((x,), "the lesson"),
    )  # fmt: skip
    assert edgecnn.check_bundle(bundle, targets=here).passed
    installed = agent.hello().runtimes
    for artifact in bundle.artifacts:
        here = [r.name for r in runtimes_for(artifact.format) if r.name in installed]
        assert here
        for runtime in here:
            with agent.open(runtime, artifact.read(), artifact.path.name) as session:
                yield artifact.precision, Runner(bundle, artifact, session).infer([x])[0]


def test_max_pooling(agent, here, tmp_path):
    seen = set()
    for precision, y in answers(agent, here, nn.MaxPool2d(2, 2), MATRIX, tmp_path / "b"):
        seen.add(precision)
        np.testing.assert_allclose(y, [[POOLED]], atol=0 if precision == "fp32" else STEP / 2 * 1.01)
        if precision == "int8":
            assert np.rint(y[0, 0]).astype(int).tolist() == POOLED
    assert seen == {"fp32", "int8"}


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(4)], ids=["adaptive", "window"])
def test_global_average(agent, here, tmp_path, pool):
    for precision, y in answers(agent, here, pool, MATRIX, tmp_path / "b"):
        assert y.shape == (1, 1, 1, 1)
        assert float(y[0, 0, 0, 0]) == pytest.approx(8.5, abs=0 if precision == "fp32" else STEP)


def test_convolution(agent, here, tmp_path):
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 32, kernel_size=3, stride=1, padding=1)
    assert sum(p.numel() for p in conv.parameters()) == 32 * 3 * 3 + 32
    x = np.random.default_rng(0).random((4, 1, 28, 28), dtype=np.float32)
    with torch.no_grad():
        expected = conv(torch.from_numpy(x)).numpy()
    assert expected.shape == (4, 32, 28, 28)
    size = np.abs(expected).max()
    for precision, y in answers(agent, here, conv, x, tmp_path / "b"):
        assert y.shape == expected.shape
        error = np.abs(y - expected) / size
        assert (
            (error.max() <= 1e-5) if precision == "fp32" else (np.quantile(error, 0.99) <= 0.01)
        )  # the rest is clipped
