"""Layers that ONNX files compute as integers in float32: which they are, their marks, and that nothing differs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.int8 import (
    CALIBRATION,
    EXECUTORS,
    NETWORKS,
    images,
    integers,
    network,
    quantized,
    quantized_graph,
    quantized_network,
    run,
)
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8.exact import EXACT_BELOW, METADATA, exact_float_layers
from edgecnn.export.onnx.int8.saturation import find_saturation
from edgecnn.golden.float_layers import as_integers
from edgecnn.golden.integer import execute_integer
from edgecnn.graph.ops import Conv2d
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.recipe import RECIPES, Override, Recipe

SHAPE = (3, 14, 14)


class Shared(nn.Module):
    """Images that exact layers, int8 layers and poolings read, and that are outputs too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.wide = nn.Conv2d(6, 8, 3)
        self.other = nn.Conv2d(3, 6, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        stem = self.stem(x)
        deep = nn.functional.relu6(self.deep(stem))
        return self.wide(stem), torch.cat([deep, stem, self.other(x)], 1), nn.functional.max_pool2d(deep, 2)


def layers(*given: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*given)


def deep(channels: int, stride: int = 1, **given: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, **given)


BUILT: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "shared": (Shared, {"stem", "deep", "other"}),
    "no activation, no bias": (layers(nn.Conv2d(3, 5, 3, bias=False), nn.Conv2d(5, 4, 3)), {"0"}),
    "ReLU6, then depthwise": (
        layers(nn.Conv2d(3, 8, 3), nn.ReLU6(), deep(8), nn.ReLU6(), nn.Conv2d(8, 4, 1)),
        {"0", "2"},
    ),
    "pooled into odd channels": (
        layers(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 7, 3)),
        {"0"},
    ),
    "pooled twice, then depthwise": (
        layers(nn.Conv2d(3, 6, 3, dilation=2), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2, 1), deep(6), nn.ReLU()),
        {"0", "4"},
    ),
    "after int8": (
        layers(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 3), nn.ReLU(), deep(5), nn.Conv2d(5, 16, 1)),
        {"0", "3"},
    ),
    "depthwise first": (layers(deep(3), nn.Conv2d(3, 16, 3, stride=2)), {"0", "1"}),
    "pooled output": (layers(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), {"0"}),
    "wide, strided": (layers(nn.Conv2d(3, 8, 3), deep(8, 2), nn.Conv2d(8, 16, 1), deep(16)), {"0"}),
}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No layer folded: many would be here, and then need no float kernel."""
    monkeypatch.setattr("edgecnn.export.onnx.int8.folding._cheapest", lambda *_: None)


def samples(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *SHAPE), dtype=np.float32)


@cache
def made(name: str, recipe: Recipe = RECIPES["int8"]) -> QuantizedGraph:
    torch.manual_seed(3)
    return quantized(BUILT[name][0]().eval(), [samples(CALIBRATION)], recipe=recipe)


def session(data: bytes, optimized: Any = None) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # works only before the import
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as edgecnn's own sessions
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def assert_as_golden(agent: Any, q: QuantizedGraph, x: np.ndarray, **options: Any) -> None:
    given = integers(q, [x])
    golden = execute_integer(q, given)
    outputs = run(agent, EXECUTORS["onnxruntime"], q, export_onnx_int8(q, version="0", **options), given)
    for output, got in zip(q.graph.outputs, outputs, strict=True):
        np.testing.assert_array_equal(got, as_integers(q, output.value, golden[output.value]), err_msg=output.name)


@pytest.mark.parametrize("recipe", ["int8", "int8-portable", "int8-per-channel", "int8-7bit"])
@pytest.mark.parametrize("name", BUILT)
def test_integers_are_those_of_the_golden_executor(name: str, recipe: str, agent: Any) -> None:
    q = made(name, RECIPES[recipe])
    assert exact_float_layers(q) == BUILT[name][1]
    assert_as_golden(agent, q, 3 * samples(40, seed=1))


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_opsets(opset: int, agent: Any) -> None:
    assert_as_golden(agent, made("shared"), samples(5, seed=1), opset=opset)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_and_without_are_one_program(name: str, agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    q, data = quantized_network(name), images(network(name).input_shape, 200)
    assert exact_float_layers(q)
    with_them = run(agent, EXECUTORS["onnxruntime"], q, export_onnx_int8(q, version="0"), integers(q, [data]))
    monkeypatch.setattr("edgecnn.export.onnx.int8.exact.exact_float_layers", lambda _: frozenset())
    without = export_onnx_int8(q, version="0")
    assert METADATA not in {p.key for p in onnx.load_from_string(without.data).metadata_props}
    np.testing.assert_array_equal(with_them, run(agent, EXECUTORS["onnxruntime"], q, without, integers(q, [data])))


@pytest.mark.parametrize("io", ["int8", "uint8"])
@pytest.mark.parametrize("name", BUILT)
def test_integers_go_in_and_come_out(name: str, io: str) -> None:
    q = made(name)
    (given,) = integers(q, [samples(7, seed=2)])
    golden = execute_integer(q, [given])
    offset = 128 if io == "uint8" else 0
    opened = session(export_onnx_int8(q, version="0", io=io).data)
    outputs = opened.run(None, {opened.get_inputs()[0].name: (given.astype(np.int16) + offset).astype(io)})
    for output, got in zip(q.graph.outputs, outputs, strict=True):
        assert got.dtype == io
        np.testing.assert_array_equal(got.astype(int) - offset, golden[output.value])


def test_inputs_far_outside_the_range_saturate(agent: Any) -> None:
    """Real inputs are clamped before they are rounded; the executor of the file gets them as they are."""
    q = made("no activation, no bias")
    x = np.array([-np.inf, -1e30, 1e30, np.inf, 0.0], np.float32)[:, None, None, None] * np.ones(
        (1, *SHAPE), np.float32
    )
    x = np.nan_to_num(x, posinf=np.inf, neginf=-np.inf)
    opened = session(export_onnx_int8(q, version="0").data)
    (got,) = opened.run(None, {opened.get_inputs()[0].name: x})
    golden = execute_integer(q, integers(q, [x]))[q.graph.outputs[0].value]
    np.testing.assert_array_equal(got, q.activations[q.graph.outputs[0].value].dequantize(golden))


@pytest.mark.parametrize("name", ["deep", "wide", "stem"])
def test_next_to_float_layers(name: str) -> None:
    """A float layer reads what an exact layer gives, or gives what one reads."""
    recipe = Recipe(name="r", overrides=(Override(layers=name, precision="float"),))
    q = made("shared", recipe)
    assert exact_float_layers(q) == BUILT["shared"][1] - {name}
    x = samples(20, seed=1)
    golden = execute_integer(q, integers(q, [x]))
    opened = session(export_onnx_int8(q, version="0").data)
    for output, got in zip(q.graph.outputs, opened.run(None, {opened.get_inputs()[0].name: x}), strict=True):
        expected = golden[output.value]
        if expected.dtype == np.float32:
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
            continue
        params = q.activations[output.value]
        off = np.abs(got - params.dequantize(expected)) / float(params.scale)
        assert off.max() < 1.01, output.name  # a float layer's sums are in another order
        assert (off > 0.01).mean() < 0.01, output.name


def guarded(sum_of: int) -> QuantizedGraph:
    """A layer whose sums can reach exactly that, in one channel."""
    q = quantized(nn.Conv2d(3, 4, 3).eval(), [samples(CALIBRATION)])
    (node,) = q.graph.nodes
    assert isinstance(node.op, Conv2d)
    reach = 255 * int(np.abs(q.weights[node.op.weight].integers[2].astype(int)).sum())
    bias = q.biases[node.name].copy()
    bias[2] = reach - sum_of
    return replace(q, biases={node.name: bias})


@pytest.mark.parametrize(("sum_of", "fits"), [(EXACT_BELOW - 1, True), (EXACT_BELOW, False), (2 * EXACT_BELOW, False)])
def test_sums_that_reach_2_to_the_24_stay_in_integer_kernels(sum_of: int, fits: bool, agent: Any) -> None:
    q = guarded(sum_of)
    assert bool(exact_float_layers(q)) == fits
    kinds = {n.op_type for n in onnx.load_from_string(export_onnx_int8(q, version="0").data).graph.node}
    assert ("Cast" in kinds) == fits
    assert_as_golden(agent, q, samples(10, seed=1))


def test_equal_bytes_each_time() -> None:
    again = made.__wrapped__("shared")
    assert export_onnx_int8(made("shared"), version="0").data == export_onnx_int8(again, version="0").data


@pytest.mark.parametrize("name", BUILT)
def test_layers_are_named_and_no_other_stays_float(name: str, tmp_path: Any) -> None:
    q = made(name)
    written = export_onnx_int8(q, version="0")
    (prop,) = onnx.load_from_string(written.data).metadata_props
    assert prop.key == METADATA
    marked = json.loads(prop.value)
    assert set(marked["layers"]) == BUILT[name][1]
    (note,) = written.notes
    assert all(layer in note for layer in marked["layers"])
    session(written.data, tmp_path / "optimized.onnx")
    for node in onnx.load(tmp_path / "optimized.onnx").graph.node:
        if node.op_type in ("Conv", "FusedConv", "Clip", "Round", "Cast", "Sub"):
            assert {node.name.removesuffix("_nchwc"), node.output[0]} & set(marked["tensors"]), node


def test_float_weights_are_stored_as_int8() -> None:
    model = onnx.load_from_string(export_onnx_int8(made("depthwise first"), version="0").data)
    floats = [onnx.numpy_helper.to_array(i) for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT]
    assert max(a[0].size for a in floats if a.ndim == 4) == 1  # multipliers and nothing larger


@pytest.mark.parametrize(("channels", "read"), [(6, 8), (8, 8), (10, 12), (5, 5)])
def test_channels_of_zeros_for_the_next_layer(channels: int, read: int, agent: Any) -> None:
    """Up to a multiple of 4; not for odd numbers, whose pairs of products would be others on x86 without VNNI."""
    torch.manual_seed(0)
    q = quantized(nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, 4, 3)), [samples(16)])
    model = onnx.load_from_string(export_onnx_int8(q, version="0").data)
    shapes = [tuple(i.dims) for i in model.graph.initializer if i.data_type == onnx.TensorProto.INT8]
    assert (4, read, 3, 3) in shapes
    assert_as_golden(agent, q, samples(10, seed=1))


def test_exact_layers_cannot_saturate() -> None:
    q = made("after int8")
    exact = exact_float_layers(q)
    assert {layer.layer for layer in find_saturation(q).layers} == {"0", "1", "4"}
    assert {layer.layer for layer in find_saturation(q, exclude=exact).layers} == {"1", "4"}


def test_a_fixed_batch_that_is_not_free() -> None:
    """A graph that mixes samples keeps its batch of 1, and its exact layers too."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).reshape(6, 144)

    x = samples(CALIBRATION)
    q = quantized_graph(capture(Mixed().eval(), [torch.from_numpy(x[:1])]), [x])
    assert exact_float_layers(q) == {"conv"}
    opened = session(export_onnx_int8(q, version="0").data)
    (got,) = opened.run(None, {opened.get_inputs()[0].name: x[:1]})
    golden = execute_integer(q, integers(q, [x[:1]]))[q.graph.outputs[0].value]
    np.testing.assert_array_equal(got, q.activations[q.graph.outputs[0].value].dequantize(golden))
