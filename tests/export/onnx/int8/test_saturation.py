"""Saturation of int8 on x86 without VNNI is bounded, counted and cured."""

from __future__ import annotations

import json

import numpy as np
import torch
from support.int8 import saturating
from support.quantized_nets import made, samples
from torch import nn

from edgecnn.export.onnx.int8.saturation import find_saturation
from edgecnn.quantize.recipe import RECIPES, Override, Recipe


def test_saturation_is_bounded_and_counted_and_cured() -> None:
    module, x = saturating()
    found = find_saturation(made(module, x=x), [x])
    assert found.possible
    assert [layer.layer for layer in found.layers] == ["0", "2", "4"]
    assert found.layers[0].wrong > 0.9 * found.layers[0].observed > 0
    assert found.rate > 0.1
    assert "can saturate in" in found.summary()
    cured = find_saturation(made(module, RECIPES["int8-7bit"], x), [x])
    assert not cured.possible
    assert cured.rate == 0
    assert max(abs(layer.worst) for layer in cured.layers) <= 2 * 255 * 63 < 2**15
    assert json.dumps(cured.summary())


def test_pairs_are_counted_as_brute_force_counts_them() -> None:
    torch.manual_seed(1)
    module, x = nn.Conv2d(3, 4, 3, stride=2, padding=1), samples(3, (3, 7, 7))
    q = made(module, x=x)
    (layer,) = find_saturation(q, [x]).layers
    (node,) = q.graph.nodes
    zero = q.activations["input" if "input" in q.activations else q.graph.inputs[0].name].zero_point + 128
    a = q.activations[q.graph.inputs[0].name].quantize(x).astype(int) + 128
    a = np.pad(a, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=zero)
    w = q.weights[node.op.weight].integers.astype(int)
    wrong = observed = 0
    for n, o, r, c in np.ndindex(3, 4, 4, 4):
        rows = a[n, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].transpose(1, 2, 0).ravel()
        products = np.append(rows * w[o].transpose(1, 2, 0).ravel(), 0).reshape(-1, 2).sum(axis=1)
        observed += 1
        wrong += bool(((products > 32767) | (products < -32768)).any())
    assert (layer.observed, layer.wrong) == (observed, wrong)
    rows = np.pad(w.transpose(0, 2, 3, 1).reshape(4, -1), ((0, 0), (0, 1))).reshape(4, -1, 2)
    highest, lowest = 255 * np.maximum(rows, 0).sum(2), 255 * np.minimum(rows, 0).sum(2)
    assert layer.risky == ((highest > 32767) | (lowest < -32768)).sum()
    assert layer.pairs == rows[..., 0].size


def test_depthwise_and_float_layers_have_no_pairs() -> None:
    module = nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 4, 3))
    q = made(module, Recipe(name="r", overrides=(Override(layers="1", precision="float"),)))
    assert find_saturation(q, [samples()]).layers == ()
