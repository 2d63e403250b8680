"""``edgecnn.testing``: for the tests of one's own project."""

from __future__ import annotations

import copy
import tomllib

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch import nn

import edgecnn
from edgecnn.errors import BundleError, UsageError
from edgecnn.testing import assert_parity
from edgecnn.testing.pytest_plugin import edgecnn_parity  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 6)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def bundle(module, images, tmp_path_factory) -> edgecnn.Bundle:
    folder = tmp_path_factory.mktemp("testing") / "net"
    precisions = ["fp32", "int8"]
    return edgecnn.export_model(
        module, images[:1], folder, name="net", formats=["onnx"], precisions=precisions, calibration=images.numpy()
    )


def changed(module: nn.Module) -> nn.Module:
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[3].bias[2] += 0.5
    return other


def test_parity_holds(module, images, bundle) -> None:
    report = assert_parity(module, bundle.directory, images, labels=module(images).argmax(1))
    assert [(v.precision, v.samples) for v in report.verdicts] == [("fp32", 40), ("int8", 40)]
    assert {v.metric for v in report.verdicts} == {"relative_error", "accuracy_drop"}
    assert module(images[:1]).requires_grad


def test_golden_inputs_are_the_default_and_a_changed_module_is_found(module, bundle) -> None:
    assert [v.metric for v in assert_parity(module, bundle).verdicts] == ["relative_error", "lsb_max"]
    with pytest.raises(AssertionError) as stop:
        assert_parity(changed(module), bundle)
    told = str(stop.value).splitlines()
    assert told[0] == "net: 1 of 2 verdicts failed"
    assert told[1].startswith("  FAILED  net.fp32.onnx on onnxruntime@local (onnxruntime ")
    assert "the limit is 1e-05" in told[2]
    assert "max error 0.5" in told[3]
    assert "worst samples: no. " in told[4]
    assert told[5].startswith("  passed  net.int8.onnx on onnxruntime@local")
    assert max(map(len, told)) < 120


def test_limits_as_a_table(module, images, bundle) -> None:
    assert_parity(changed(module), bundle, images.numpy(), limits={"relative_error": 2, "top1_disagreement": 1})
    with pytest.raises(UsageError, match="no metric"):
        assert_parity(module, bundle, images, limits={"error": 1.0})
    with pytest.raises(AssertionError, match="held to nothing") as stop:
        assert_parity(module, bundle, limits={"accuracy_drop": 0.5})
    assert "NOT JUDGED" in str(stop.value)


def test_no_bundle_is_an_error_and_no_failure(module, tmp_path) -> None:
    with pytest.raises(BundleError):
        assert_parity(module, tmp_path / "none")


def test_the_fixture_exports_first(edgecnn_parity, module, images) -> None:  # noqa: F811  (pytest's way)
    report = edgecnn_parity(module, images, formats=["onnx"])
    assert [v.artifact for v in report.verdicts] == ["sequential.fp32.onnx"]
    assert np.isclose(report.verdicts[0].cosine, 1)


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the checkout, not an installed wheel")
def test_pytest_finds_the_plugin() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"edgecnn": "edgecnn.testing.pytest_plugin"}
