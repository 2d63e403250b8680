"""Weights as uint8: the same integers in sessions without any setting, on processors with VNNI and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from support.int8 import NETWORKS, Executor, images, integers, network, quantized, quantized_network, run
from torch import nn

from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8.passes import file_graph
from edgecnn.golden.integer import execute_integer
from edgecnn.program.quantized import QuantizedGraph

PLAIN = Executor("onnx", "onnxruntime", {"precision": False}, "half_even_fp32")


class Forms(nn.Module):
    """Layers in every form of weights: folded and dilated, in halves, stored channels last, shared, in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.halves, self.folded = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 9, 3, dilation=(1, 2))
        self.groups, self.shared = nn.Conv2d(9, 12, 3, groups=3), nn.Conv2d(12, 12, 3, padding=1)
        self.flat, self.rows = nn.Linear(12 * 10 * 8, 4), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = nn.functional.max_pool2d(self.halves(x), 2).relu()
        y = self.groups(self.folded(y).relu()).relu()
        y = self.shared(self.shared(y).relu())
        return self.flat(y.flatten(1)), self.rows(y)


def forms() -> tuple[QuantizedGraph, np.ndarray]:
    torch.manual_seed(3)
    module = Forms().eval()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.uniform_(parameter, 0.2, 1.0)  # neighbors of one sign: pairs of products leave int16
    x = 0.6 + 0.4 * np.random.default_rng(0).random((16, 1, 28, 28), np.float32)
    return quantized(module, [x]), x


def written(q: QuantizedGraph) -> Any:
    return export_onnx_int8(replace(q, uint8_weights=True), version="0")


def outputs_agree(agent: Any, q: QuantizedGraph, x: np.ndarray) -> None:
    whole = integers(q, [x])
    golden = execute_integer(q, whole)
    for output, got in zip(q.graph.outputs, run(agent, PLAIN, q, written(q), whole), strict=True):
        np.testing.assert_array_equal(got, golden[output.value], err_msg=output.name)


def test_every_form_of_weights(agent) -> None:
    q, x = forms()
    graph = file_graph(replace(q, uint8_weights=True))
    assert graph.uint8_layers == {n.name for n in q.graph.nodes if n.name in q.biases}, "all of them saturate"
    tensors = onnx.load_from_string(written(q).data).graph.initializer
    assert not [t.name for t in tensors if t.data_type == TensorProto.INT8]
    outputs_agree(agent, q, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(agent, name: str) -> None:
    q = quantized_network(name)
    outputs_agree(agent, q, images(network(name).input_shape, 4))


def test_files_without_a_risk_are_as_they_were() -> None:
    """With 7 bits no pair leaves int16."""
    q = replace(quantized_network("lenet5"), uint8_weights=True)
    assert file_graph(q).uint8_layers
    weights = {name: replace(w, integers=(w.integers // 2).astype(np.int8)) for name, w in q.weights.items()}
    halved = replace(q, weights=weights)
    assert not file_graph(halved).uint8_layers
    assert written(halved).data == export_onnx_int8(replace(halved, uint8_weights=False), version="0").data
