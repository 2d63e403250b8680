"""fp16: what its files compute, how large they are, and where it is refused or coarse."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, CORE, Case
from cases.base import captured
from support.exporters import LIMIT
from support.precisions import FP16, FP32, ZOO, zoo_model
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.errors import QuantizationError, UsageError
from edgecnn.export.formats import FORMATS
from edgecnn.export.onnx.fp16 import export_onnx_fp16
from edgecnn.golden.float import execute_float
from edgecnn.parity.metrics import relative_error
from edgecnn.program.half_weights import half_weights, weighted_nodes

WEIGHTED = [
    c for c in CORE if any(w in c.name for w in ("conv", "depthwise", "linear", "residual", "shared", "excite"))
] + [c for c in CASES if c.name in ("conv transpose bn relu", "net encoder-decoder, transposed", "net convnext block")]


@pytest.mark.parametrize("case", WEIGHTED, ids=lambda c: c.name)
def test_fp16_computes_the_graph_with_rounded_weights(case: Case, infer) -> None:
    graph = captured(case)
    rounded = half_weights(graph)
    arrays = [x.numpy() for x in case.inputs(3)]
    values = execute_float(rounded, arrays)
    for form, export in FP16.items():
        for output, got in zip(graph.outputs, infer(form, graph, export(graph, version="0"), arrays), strict=True):
            assert relative_error(got, values[output.value]) <= LIMIT, form


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("form", FORMATS)
def test_fp16_files_are_about_half_the_size(name: str, form: str) -> None:
    graph, _ = zoo_model(name)
    written = FP16[form](graph, version="0")
    assert len(written.data) <= 0.52 * len(FP32[form](graph, version="0").data)
    assert written.notes == ()
    cast = {"onnx": "Cast", "tflite": "DEQUANTIZE"}[form]
    assert written.operators[cast] == len(weighted_nodes(graph))


@pytest.mark.parametrize("form", FORMATS)
def test_fp16_refuses_weights_beyond_its_range_by_the_layer(form: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with torch.no_grad():
        module[0].weight[1, 0, 0, 0] = 70_000.0
    graph = capture(module, [torch.zeros(1, 1, 5, 5)])
    with pytest.raises(QuantizationError, match=r"^0 \(Conv2d\): the weights of channel 1 do not fit float16"):
        FP16[form](graph, version="0")


@pytest.mark.parametrize("form", FORMATS)
def test_fp16_says_where_it_is_coarse(form: str) -> None:
    module = nn.Linear(4, 3)
    with torch.no_grad():
        module.weight[1] *= 1e-6
    (note,) = FP16[form](capture(module, [torch.zeros(1, 4)]), version="0").notes
    assert "the weights of 1 channels lie below 6.1e-05" in note


@pytest.mark.parametrize("opset", [13, 21])
def test_fp16_opsets(opset: int, infer) -> None:
    case = next(c for c in CASES if c.name == "linear on the last axis")
    graph, arrays = captured(case), [x.numpy() for x in case.inputs(2)]
    (got,) = infer("onnx", graph, export_onnx_fp16(graph, version="0", opset=opset), arrays)
    assert relative_error(got, execute_float(half_weights(graph), arrays)[graph.outputs[0].value]) <= LIMIT
    with pytest.raises(UsageError, match="opset 12"):
        export_onnx_fp16(graph, version="0", opset=12)
