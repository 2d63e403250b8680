"""Data and models that cannot be quantized are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.quantized_nets import SHAPE, made, samples
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.errors import DataError, QuantizationError
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize
from edgecnn.quantize.recipe import Override, Recipe


def refused(batch: object, message: str) -> None:
    graph = prepare(capture(nn.Conv2d(2, 3, 1).eval(), [torch.zeros(1, *SHAPE)]))
    with pytest.raises(DataError, match=message):
        observe(graph, [] if batch is None else [batch])


def test_calibration_data_that_is_refused() -> None:
    nan, inf = samples(), samples()
    nan[3, 0, 0, 0], inf[0, 0, 0, 0] = np.nan, np.inf
    refused(None, "no calibration data")
    refused([samples(), samples()], "2 inputs, the model takes 1")
    refused([samples(4, (2, 8))], "shape")
    refused([samples(4, (3, 8, 8))], "shape")
    refused([np.zeros((4, *SHAPE), np.uint8)], "are uint8")
    refused([nan], "NaN or infinities")
    refused([inf], "NaN or infinities")
    refused([np.zeros((4, *SHAPE), np.float32)], "all 0")


def test_an_overflow_inside_names_the_layer() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        module[0].weight.fill_(1e30)
        module[1].weight.fill_(1e30)
    with pytest.raises(DataError, match=r"^1 becomes NaN or infinite"):
        made(module)


def test_bytes_are_suspected() -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, *SHAPE)).astype(np.float32)
    assert any("like bytes" in note for note in made(nn.Conv2d(2, 3, 1), x=x).notes)
    assert not made(nn.Conv2d(2, 3, 1), x=samples()).notes


def test_a_layer_too_wide_for_int32_is_refused_by_name() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(70_000, 1))
    with torch.no_grad():
        module[1].weight.fill_(1.0)
    with pytest.raises(QuantizationError, match=r"1 \(Linear\).*int32"):
        made(module, x=samples(2, (70_000,)))


def test_a_division_needs_float() -> None:
    class Ratio(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x / y

    graph = prepare(capture(Ratio().eval(), [torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)]))
    observers = observe(graph, [[samples(), np.abs(samples(seed=1)) + 1]])
    with pytest.raises(QuantizationError, match="division"):
        quantize(graph, observers)
    floats = Recipe(name="r", overrides=(Override(layers=graph.nodes[0].name, precision="float"),))
    assert quantize(graph, observers, floats).skipped == {graph.nodes[0].name}
