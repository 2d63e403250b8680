"""Depthwise convolutions in int8 ONNX files: their form, the same numbers, and every value to be looked at."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from support.int8 import CALIBRATION, EXECUTORS, integers, quantized, run
from support.shared_host import shared_target
from torch import nn

import edgecnn
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8.channels_last import stored_last
from edgecnn.export.onnx.int8.depthwise import adapt_depthwise
from edgecnn.export.onnx.int8.saturation import find_saturation
from edgecnn.golden.integer import execute_integer
from edgecnn.locate.locate import locate
from edgecnn.program.qparams import QParams, divides_alike, dividing_alike
from edgecnn.program.quantized import QuantizedGraph

SHAPE = (3, 16, 16)


def deep(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)


class Squeezed(nn.Module):
    """An inverted residual with squeeze-and-excitation: what gives channels, what reads them, all kinds between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand, self.deep, self.project = nn.Conv2d(3, channels, 1), deep(channels, 2), nn.Conv2d(channels, 8, 1)
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.slopes = nn.Parameter(torch.linspace(0.5, 1.5, channels).reshape(1, channels, 1, 1))
        self.last = nn.Conv2d(8, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.deep(F.hardswish(self.expand(x)))) * self.slopes
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.last(self.project(x))


class Ended(nn.Module):
    """One whose channels reach an output, and one whose channels are told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 30, 1), deep(30), deep(30)
        self.d = nn.Conv2d(60, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.a(x))
        return self.b(x), self.d(torch.cat([F.relu(self.c(x)), x], 1))


class Stored(nn.Module):
    """A slice of rows, and a linear layer that reads an image after integer convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 16, 3, padding=1)
        self.scores = nn.Linear(16 * 6 * 8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.b(F.relu(self.a(x)))), 2)
        return self.scores(x[:, :, 1:7].flatten(1))


NETS: dict[str, tuple[nn.Module, set[int], set[str]]] = {
    "few channels": (
        nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), deep(8), nn.ReLU6(), nn.Conv2d(8, 16, 1)),
        set(),
        {"2"},
    ),
    "squeezed": (Squeezed(30), {32}, set()),
    "squeezed, too few": (Squeezed(20), set(), set()),
    "shared": (nn.Sequential(nn.Conv2d(3, 45, 1), deep(45), deep(45, 2), nn.Conv2d(45, 6, 1)), {48}, set()),
    "ended": (Ended(), set(), set()),
    "stored": (Stored(), set(), set()),
}
"""A net, how many channels its images get, and which of its layers are written dense."""


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, *SHAPE), dtype=np.float32)


@cache
def made(name: str) -> QuantizedGraph:
    torch.manual_seed(3)
    return quantized(NETS[name][0].eval(), [samples(CALIBRATION)])


@pytest.mark.parametrize("name", NETS)
def test_integers_are_those_of_the_golden_executor(name: str, agent: Any) -> None:
    q, (_, wide, dense) = made(name), NETS[name]
    adapted = adapt_depthwise(q)
    assert set(adapted.channels.values()) == wide
    convolutions = {n.name: n.op for n in q.graph.nodes if n.name in adapted.quantized.biases}
    groups = {n.name: n.op.groups for n in adapted.quantized.graph.nodes if hasattr(n.op, "groups")}
    assert {k for k, op in convolutions.items() if getattr(op, "groups", 1) > 1 == groups.get(k)} == dense
    given = integers(q, [2 * samples(9)])
    golden = execute_integer(q, given)
    outputs = run(agent, EXECUTORS["onnxruntime"], q, export_onnx_int8(q, version="0"), given)
    for output, got in zip(q.graph.outputs, outputs, strict=True):
        off = np.abs(got.astype(int) - golden[output.value])
        assert off.max() <= name.startswith("squeezed"), output.name  # its mean and its products are a step off at ties


@pytest.mark.parametrize("name", ["few channels", "squeezed", "shared", "stored"])
def test_every_value_of_the_file_is_looked_at(name: str, agent: Any, tmp_path: Path) -> None:
    torch.manual_seed(3)
    bundle = edgecnn.export_model(
        NETS[name][0].eval(), torch.zeros(1, *SHAPE), tmp_path / "b", formats=["onnx"], precisions=["int8"],
        calibration=samples(CALIBRATION),
    )  # fmt: skip
    found = locate(bundle, bundle.artifact("onnx", "int8"), shared_target(agent, "onnxruntime"), failed=False)
    assert not found.found
    program = bundle.program().quantized
    assert program is not None
    assert {line.value for line in found.lines} >= {n.name for n in program.graph.nodes}
    assert not [line for line in found.lines if line.broken]


def test_saturation_looks_at_a_linear_layer_as_it_is_stored() -> None:
    q = made("stored")
    assert {"b", "max_pool2d"} <= stored_last(q)
    weights = q.weights["scores.weight"].integers.reshape(-1, 16, 6, 8).transpose(0, 2, 3, 1).reshape(7, -1, 2)
    (layer,) = (layer for layer in find_saturation(q).layers if layer.layer == "scores")
    assert layer.pairs == weights.shape[0] * weights.shape[1]
    written = onnx.load_from_string(export_onnx_int8(q, version="0").data)
    (stored,) = (onnx.numpy_helper.to_array(i) for i in written.graph.initializer if i.dims == [7, 16 * 6 * 8])
    np.testing.assert_array_equal(stored.reshape(weights.shape), weights)


def test_inputs_are_quantized_by_a_division_alone() -> None:
    """At the scale of an input every float32 number near a tie gives what a product with the reciprocal gives."""
    q = made("stored")
    kinds = [n.op_type for n in onnx.load_from_string(export_onnx_int8(q, version="0").data).graph.node]
    assert "Mul" not in kinds
    scale = q.activations["x"].scale
    ties = ((np.arange(-300, 300) + 0.5) * float(scale)).astype(np.float32)
    near = (ties.view(np.int32)[:, None] + np.arange(-40, 41, dtype=np.int32)).view(np.float32)
    wide = np.random.default_rng(0).uniform(-300 * scale, 300 * scale, 1_000_000).astype(np.float32)
    for x in (near, wide):
        np.testing.assert_array_equal(np.rint(x / scale), np.rint(x * (np.float32(1) / scale)))


def test_a_scale_that_divides_otherwise_is_multiplied_by() -> None:
    """Programs of bundles made before, and inputs whose parameters are prescribed."""
    plain, scale = made("stored"), np.float32(0.0237)
    assert not divides_alike(scale)
    assert 1 < dividing_alike(QParams(scale, 3)).scale / scale < 1.0005
    q = replace(plain, activations={**plain.activations, "x": QParams(scale, 3)})
    (multiplied,) = (
        n for n in onnx.load_from_string(export_onnx_int8(q, version="0").data).graph.node if n.op_type == "Mul"
    )
    assert multiplied.input[0] == "x"
