"""The passes that make the graph of an int8 ONNX file, and the table that it is written by."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from support.int8 import CALIBRATION, integers, quantized
from torch import nn

from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8 import nodes
from edgecnn.export.onnx.int8.nodes import FileNode, plain_file_graph
from edgecnn.export.onnx.int8.passes import PASSES, file_graph
from edgecnn.export.onnx.int8.write import ROWS
from edgecnn.golden.integer import execute_integer
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.recipe import RECIPES, Override, Recipe

RNG = np.random.default_rng(5)


def test_every_kind_of_node_has_a_row() -> None:
    assert set(ROWS) == set(get_args(FileNode))


def test_every_pass_says_when_it_does_not_apply() -> None:
    for step in PASSES:
        assert "Does not apply" in str(step.__doc__), step.__name__


class Everything(nn.Module):
    """A model in which every kind of node occurs."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.Conv2d(1, 6, 5, padding=2)
        self.folded = nn.Conv2d(6, 9, 3)
        self.exact = nn.Conv2d(3, 16, 3)
        self.rest = nn.Conv2d(16, 32, 3)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.last = nn.Conv2d(16, 16, 3)
        self.flat = nn.Linear(16 * 2 * 2, 4)
        self.rows, self.floats = nn.Linear(7, 3), nn.Linear(4, 4)

    def forward(self, grey: torch.Tensor, color: torch.Tensor, signal: torch.Tensor) -> tuple[torch.Tensor, ...]:
        folded = self.folded(nn.functional.max_pool2d(self.halves(grey), 2))
        x = self.rest(nn.functional.max_pool2d(self.exact(color), 2).relu())
        x = self.last(self.up(x))
        part = x[:, :, 1:3, 1:3]
        return folded, self.floats(self.flat(part.flatten(1))), x.mean((2, 3)), self.rows(signal)


INPUTS = ((1, 28, 28), (3, 16, 16), (5, 7))


def everything() -> QuantizedGraph:
    torch.manual_seed(3)
    given = [RNG.standard_normal((CALIBRATION, *shape), dtype=np.float32) for shape in INPUTS]
    recipe = Recipe(name="r", overrides=(Override(layers="floats", precision="float"),))
    return quantized(Everything().eval(), given, recipe=recipe)


def test_every_kind_of_node_is_made() -> None:
    graph = file_graph(everything())
    assert {type(n) for n in graph.nodes.values()} == set(get_args(FileNode))
    assert list(graph.nodes) == [n.name for n in graph.graph.nodes]


def test_passes_leave_what_they_are_given_as_it_is() -> None:
    q = everything()
    weights = {name: w.integers.copy() for name, w in q.weights.items()}
    graph = plain_file_graph(q)
    for step in PASSES:
        before, made = dict(graph.nodes), step(graph)
        assert dict(graph.nodes) == before, step.__name__
        graph = made
    assert q.weights.keys() == weights.keys()
    for name, own in weights.items():
        np.testing.assert_array_equal(q.weights[name].integers, own)


def test_accumulators_are_widened_to_fours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.export.onnx.int8.folding._cheapest", lambda *_: None)
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3, stride=2)).eval()
    q = quantized(module, [RNG.standard_normal((CALIBRATION, 3, 17, 17), dtype=np.float32)])
    graph = file_graph(q)
    pool, last = (n for n in graph.graph.nodes if n.name not in graph.of_kind(nodes.ExactConv))
    assert isinstance(graph.nodes[pool.name], nodes.AccumulatorPool)
    assert graph.channels == {pool.name: 8}
    padded = graph.quantized.weights[last.inputs[1]].integers
    assert padded.shape[1] == 8
    assert not padded[:, 6:].any()
    np.testing.assert_array_equal(padded[:, :6], q.weights[last.inputs[1]].integers)


class SharedHead(nn.Module):
    """One linear layer that reads two images of different shapes, both stored with their channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(16, 16, 3), nn.Conv2d(16, 32, 3), nn.Linear(16 * 2 * 4, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = self.a(x), self.b(y)
        return self.head(a.flatten(1)), self.head(b.flatten(1)), self.head(a.relu().flatten(1))


@pytest.mark.parametrize("io", ["float32", "uint8"])
def test_one_linear_layer_may_read_several_images(io: str) -> None:
    torch.manual_seed(3)
    given = [RNG.standard_normal((CALIBRATION, 16, 4, w), dtype=np.float32) for w in (6, 4)]
    q = quantized(SharedHead().eval(), given, recipe=RECIPES["int8-7bit"])  # no processor saturates
    assert len(file_graph(q).of_kind(nodes.ChannelsLastLinear)) == 3
    model = onnx.load_from_string(export_onnx_int8(q, version="0", io=io).data)
    names = {i.name for i in model.graph.initializer if i.name.startswith("head.weight")}
    assert {"head.weight.last.q", "head.weight.last1.q"} <= names
    if io == "uint8":
        import onnxruntime as ort

        whole = integers(q, given)
        golden = execute_integer(q, whole)
        opened = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        fed = {i.name: (x.astype(np.int16) + 128).astype(np.uint8) for i, x in zip(q.graph.inputs, whole, strict=True)}
        for output, got in zip(q.graph.outputs, opened.run(None, fed), strict=True):
            off = np.abs(got.astype(int) - 128 - golden[output.value])
            assert off.max() <= 1, output.name
            assert (off > 0).mean() < 0.01, output.name
