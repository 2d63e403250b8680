"""Weights, biases and scales follow the rules; portable recipes give the same integers on every runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.int8 import EXECUTORS, integers, run
from support.quantized_nets import SHAPE, made, samples
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.golden.integer import execute_integer
from edgecnn.graph.ops import Linear
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize
from edgecnn.quantize.recipe import RECIPES, Recipe


def test_weights_and_biases_follow_the_rules(net: nn.Module) -> None:
    for recipe in (*RECIPES.values(), Recipe(name="layer", linear_scales="layer")):
        q = made(net, recipe)
        for node in q.graph.nodes:
            weights = q.weights.get(getattr(node.op, "weight", ""))
            if weights is None:
                continue
            rows = np.abs(weights.integers.reshape(len(weights.scales), -1).astype(int))
            whole = isinstance(node.op, Linear) and recipe.linear_scales != "channel"
            assert (rows.max(axis=None if whole else 1) == recipe.weight_limit).all()
            real = q.graph.constants[node.op.weight]
            assert np.abs(weights.dequantize() - real).max() <= 0.5001 * weights.scales.max()
            scales = weights.scales.astype(float) * float(q.activations[node.op.x].scale)
            assert np.abs(q.biases[node.name] * scales - q.graph.constants[node.op.bias]).max() <= 0.5001 * scales.max()


def _linear_scales(rows: list[float], linear_scales: str = "auto") -> np.ndarray:
    """The scales that a linear layer gets whose outputs have weights of these magnitudes."""
    module = nn.Linear(16, len(rows))
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 16) * torch.tensor(rows)[:, None])
    x = np.random.default_rng(0).standard_normal((32, 16), dtype=np.float32)
    q = made(module, Recipe(name="own", linear_scales=linear_scales), x)
    (weights,) = q.weights.values()
    assert (np.abs(weights.integers).max(axis=1) > 0).tolist() == [row > 0 for row in rows]
    return weights.scales * 127


def test_a_linear_layer_has_one_scale_unless_its_outputs_differ_much() -> None:
    np.testing.assert_allclose(_linear_scales([2.0, 1.0, 1.0, 0.5]), 2.0)
    np.testing.assert_allclose(_linear_scales([2.0, 0.2, 0.2, 0.2, 0.2]), [2.0, 0.2, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(_linear_scales([2.0, 0.2, 0.2, 0.2, 0.2], "layer"), 2.0)
    np.testing.assert_allclose(_linear_scales([2.0, 1.0], "channel"), [2.0, 1.0])


@pytest.mark.parametrize("linear_scales", ["auto", "layer"])
def test_an_output_without_weights_does_not_coarsen_the_others(linear_scales: str) -> None:
    """By itself such a channel has the scale 1, which one scale for all must not become."""
    np.testing.assert_allclose(_linear_scales([0.01, 0.01, 0.0], linear_scales), 0.01, rtol=1e-6)
    assert _linear_scales([0.0, 0.0], linear_scales).shape == (2,)


def test_portable_gives_additions_and_concatenations_one_scale(net: nn.Module) -> None:
    q = made(net, RECIPES["int8-portable"])
    joined = [n for n in q.graph.nodes if type(n.op).__name__ in ("Add", "Concat")]
    assert len(joined) == 2
    for node in joined:
        assert len({q.activations[v] for v in (*node.inputs, node.name)}) == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_portable_is_exact_in_both_runtimes(recipe: str, net: nn.Module, agent: object) -> None:
    q = made(net, RECIPES[recipe])
    x = integers(q, [samples(64, seed=9)])
    golden = execute_integer(q, x)[q.graph.outputs[0].value].astype(int)
    written = {"onnx": export_onnx_int8(q, version="0"), "tflite": export_tflite_int8(q, version="0")}
    for name in ("onnxruntime", "xnnpack"):
        (got,) = run(agent, EXECUTORS[name], q, written[EXECUTORS[name].form], x)
        limit = 0 if recipe == "int8-portable" else 3
        assert np.abs(got - golden).max() <= limit, name


def test_portable_with_a_subtraction_and_a_constant(agent: object) -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(1, 2, 1, 1))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x - y) + self.bias

    x, y = samples(16), 3 * samples(16, seed=1)
    graph = prepare(capture(Sums().eval(), [torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)]))
    q = quantize(graph, observe(graph, [[x, y]]), RECIPES["int8-portable"])
    assert len(set(q.activations.values())) == 1
    given = integers(q, [x, y])
    golden = execute_integer(q, given)[q.graph.outputs[0].value].astype(int)
    for name, export in (("onnxruntime", export_onnx_int8), ("xnnpack", export_tflite_int8)):
        (got,) = run(agent, EXECUTORS[name], q, export(q, version="0"), given)
        assert (got == golden).all(), name


def test_portable_leaves_out_additions_of_prescribed_parameters() -> None:
    class Gate(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x.sigmoid()

    q = made(Gate(), RECIPES["int8-portable"])
    assert any("prescribed" in note for note in q.notes)


def test_a_constant_tensor_and_dead_channels(agent: object) -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Linear(108, 2))
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].bias.fill_(-1.0)  # after the ReLU all is 0
        module[2].weight[1].zero_()
        module[2].bias[1] = 7.0
    q = made(module)
    assert any("is always 0 on" in note for note in q.notes)
    assert any("4 of 4 channels are all 0" in note for note in q.notes)
    x = integers(q, [samples(4)])
    golden = execute_integer(q, x)[q.graph.outputs[0].value].astype(int)
    expected = module(torch.from_numpy(samples(4))).detach().numpy()
    real = q.activations[q.graph.outputs[0].value].dequantize(golden)
    assert np.abs(real - expected).max() < 0.1
    for name, export in (("onnxruntime", export_onnx_int8), ("xnnpack", export_tflite_int8)):
        (got,) = run(agent, EXECUTORS[name], q, export(q, version="0"), x)
        assert (got == golden).all(), name


def test_a_bias_that_would_leave_int32_raises_the_weight_scale() -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        module.weight[0] = 1e-12
        module.bias[0] = 5.0
    q = made(module, Recipe(name="unclipped", calibrator="minmax"))
    assert any("scales of 1 of 2 channels were raised" in note for note in q.notes)
    (bias,) = q.biases.values()
    assert abs(int(bias[0])) <= 1.0001 * 2**30
    x = samples(4)
    value = q.graph.outputs[0].value
    got = q.activations[value].dequantize(execute_integer(q, integers(q, [x]))[value])
    off = np.abs(got - module(torch.from_numpy(x)).detach().numpy()).max()
    assert off <= q.activations[value].scale  # one step, nothing being clipped


@pytest.mark.parametrize("size", [1e-38, 1e-34, 1e-28, 1e-18])
def test_scales_never_underflow(size: float) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        module[0].weight.mul_(size)
        module[0].bias.zero_()
    q = made(module)
    for node in q.graph.nodes:
        x, y = q.activations[node.op.x].scale, q.activations[node.name].scale
        products = x * q.weights[node.op.weight].scales
        assert (products >= np.finfo(np.float32).tiny).all()
        assert (products / y < 256).all()
    value = q.graph.outputs[0].value
    got = q.activations[value].dequantize(execute_integer(q, integers(q, [samples()]))[value])
    assert np.abs(got - module(torch.from_numpy(samples())).detach().numpy()).max() < 0.02
