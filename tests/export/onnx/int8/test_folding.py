"""Convolutions that ONNX files fold: the same numbers, the form that the quick kernel takes, and what it costs."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from support.int8 import CALIBRATION, integers, quantized
from torch import nn

from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8.depthwise import adapt_depthwise
from edgecnn.export.onnx.int8.exact import exact_float_layers
from edgecnn.export.onnx.int8.folding import _fold, folds
from edgecnn.export.onnx.int8.saturation import INT16, find_saturation
from edgecnn.golden.integer import execute_integer
from edgecnn.graph.ops import Conv2d
from edgecnn.graph.shapes import Padding
from edgecnn.program.quantized import QuantizedGraph

RNG = np.random.default_rng(0)


def session(data: bytes, level: str = "ORT_ENABLE_ALL", optimized: Any = None) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # works only before the import
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as edgecnn's own sessions
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [(0, 0), (2, 0), (1, 3)])
@pytest.mark.parametrize("columns", [1, 3])
def test_a_folded_convolution_gives_the_same_sums(
    stride: int, dilation: int, padding: tuple[int, int], columns: int
) -> None:
    """Every fold of every length of rows, by torch's convolution of whole numbers."""
    met = 0
    for width in (7, 10, 12, 18):
        x = RNG.integers(-255, 256, (2, 3, 5, width))
        weights = RNG.integers(-127, 128, (2, 3, 2, columns)).astype(np.int8)
        sides = Padding(top=1, bottom=0, left=padding[0], right=padding[1])
        op = Conv2d(x="x", weight="w", bias=None, stride=(2, stride), padding=sides, dilation=(1, dilation), groups=1)
        plain = sums(x, weights, op)
        for outputs in range(1, plain.shape[3] + 1):
            found = _fold(op, (3, columns), width, plain.shape[3], outputs)
            if found is None:
                continue
            fold = replace(found, read=4, given=5, planes=bool(outputs % 3), halves=outputs % 4 == 0)
            blocks = sums(fold.image(x, 0), fold.weights(op, weights), fold.convolution(op))
            n, _, height, wide = blocks.shape
            split = blocks.reshape(n, outputs, 5, height, wide).transpose(0, 2, 3, 4, 1)
            if fold.halves:
                split = np.stack([split[..., : outputs // 2], split[..., outputs // 2 :]], axis=-1)
            whole = split.reshape(n, 5, height, -1)
            np.testing.assert_array_equal(whole[:, :2], plain)
            assert not whole[:, 2:].any()
            met += outputs > 1
    assert met > 2


def sums(x: np.ndarray, weights: np.ndarray, op: Conv2d) -> np.ndarray:
    top, bottom, left, right = op.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    given = torch.from_numpy(x).double(), torch.from_numpy(weights.astype(np.float64))
    return F.conv2d(*given, stride=op.stride, dilation=op.dilation).numpy()


class Branches(nn.Module):
    """What folded layers give, read by every kind of reader; transposed convolutions; one image read by two folds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 7, 3, padding=1, dilation=(1, 1))
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up = nn.ConvTranspose2d(6, 6, 2, 2)
        self.scores = nn.Linear(7 * 8 * 8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = F.relu6(self.a(x))
        b = self.b(a)
        return self.up(F.max_pool2d(a, 2)), self.deep(a) + a, self.scores(F.max_pool2d(b, 2).flatten(1)), b


NETS: dict[str, tuple[nn.Module, tuple[int, ...], set[str]]] = {
    "few channels, padded": (
        nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 11, 1), nn.ReLU6(), nn.Conv2d(11, 5, 3)),
        (3, 20, 22),
        {"0", "2", "4"},
    ),
    "whole rows, strided": (nn.Sequential(nn.Conv2d(1, 12, (4, 3), 2, 1), nn.ReLU()), (1, 81, 10), {"0"}),
    "whole rows, of 7": (nn.Sequential(nn.Conv2d(2, 6, 5, padding=2), nn.Conv2d(6, 4, 3)), (2, 40, 7), {"0", "1"}),
    "pooled": (
        nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(6, 9, 3), nn.MaxPool2d(2)),
        (1, 29, 28),
        {"0", "3"},
    ),
    "dilated": (nn.Conv2d(6, 6, 3, padding=2, dilation=2), (6, 30, 32), {"conv2d"}),
    "branches": (Branches(), (6, 16, 16), {"a", "b"}),
}


def made(name: str) -> QuantizedGraph:
    torch.manual_seed(3)
    module, shape, _ = NETS[name]
    return quantized(module.eval(), [RNG.standard_normal((CALIBRATION, *shape), dtype=np.float32)])


@pytest.mark.parametrize("name", NETS)
def test_integers_are_those_of_the_golden_executor(name: str, tmp_path: Any) -> None:
    """Whole files, on several samples; integer kernels run them, and nothing copies weights."""
    q = made(name)
    _, shape, expected = NETS[name]
    assert set(folds(q)) == expected
    x = 2 * RNG.standard_normal((9, *shape), dtype=np.float32)
    (given,) = integers(q, [x])
    golden = execute_integer(q, [given])
    written = export_onnx_int8(q, version="0", io="uint8")
    opened = session(written.data, optimized=tmp_path / "optimized.onnx")
    outputs = opened.run(None, {opened.get_inputs()[0].name: (given.astype(np.int16) + 128).astype(np.uint8)})
    for output, got in zip(q.graph.outputs, outputs, strict=True):
        off = np.abs(got.astype(int) - 128 - golden[output.value])
        assert off.max() <= (output.value == "add"), output.name
    ran = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert not {"Tile", "DepthToSpace"} & set(ran), ran
    convolutions = {n.name for n in q.graph.nodes if isinstance(n.op, Conv2d)}
    assert ran.count("QLinearConv") == len(convolutions - exact_float_layers(adapt_depthwise(q).quantized))


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
@pytest.mark.parametrize("opset", [13, 21])
def test_other_opsets_and_optimizations_move_the_same_numbers(opset: int, level: str) -> None:
    """Without fusion sums are float32 and scaled, so that a tie may go the other way; a wrong place would show."""
    q = made("few channels, padded")
    x = RNG.standard_normal((4, *NETS["few channels, padded"][1]), dtype=np.float32)
    (given,) = integers(q, [x])
    golden = execute_integer(q, [given])[q.graph.outputs[0].value]
    opened = session(export_onnx_int8(q, version="0", io="int8", opset=opset).data, level)
    (got,) = opened.run(None, {opened.get_inputs()[0].name: given})
    off = np.abs(got.astype(int) - golden)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.002


def test_the_file_holds_the_layers_own_weights() -> None:
    q = made("few channels, padded")
    model = onnx.load_from_string(export_onnx_int8(q, version="0").data)
    sizes = {
        np.prod(i.dims) for i in model.graph.initializer if i.data_type == onnx.TensorProto.INT8 and len(i.dims) > 1
    }
    assert sizes == {10 * 3 * 9, 11 * 10, 5 * 11 * 9}


def test_saturation_is_that_of_the_folded_pairs() -> None:
    """Odd channels: a pair spans two places of the image, others than those of the plain weights."""
    q = made("few channels, padded")
    found = {layer.layer: layer for layer in find_saturation(q).layers}
    for name, fold in folds(q).items():
        op = q.graph.producers[name].op
        assert isinstance(op, Conv2d)
        folded = fold.weights(op, q.weights[op.weight].integers).astype(np.int64)
        rows = folded.transpose(0, 2, 3, 1).reshape(len(folded), -1, 2)
        low, high = (q.activations[op.x].zero_point + 128, 255) if name != "0" else (0, 255)
        worst = np.where(rows > 0, rows * high, rows * low).sum(2)
        least = np.where(rows > 0, rows * low, rows * high).sum(2)
        assert found[name].pairs == worst.size
        assert found[name].risky == ((worst > INT16.max) | (least < INT16.min)).sum()
        assert found[name].observed == 0
    x = 2 * RNG.standard_normal((16, *NETS["few channels, padded"][1]), dtype=np.float32)
    assert any(layer.observed for layer in find_saturation(q, [x]).layers) == any(f.risky for f in found.values())
