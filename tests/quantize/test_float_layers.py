"""Layers that a recipe leaves in float, in both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.int8 import integers
from support.quantized_nets import SHAPE, made, samples
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.golden.float_layers import as_real
from edgecnn.golden.integer import execute_integer
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize
from edgecnn.quantize.recipe import Override, Recipe, parse_recipe

SKIPS = ["stem", "body", "body.2", "side", "head", "pool", "*"]


@pytest.mark.parametrize("layers", SKIPS)
def test_float_layers_in_both_formats(layers: str, net: nn.Module, infer: object) -> None:
    recipe = Recipe(name="r", portable=True, overrides=(Override(layers=layers, precision="float"),))
    q = made(net, recipe)
    assert q.skipped
    x = samples(16, seed=4)
    out = q.graph.outputs[0].value
    golden = as_real(q, out, execute_integer(q, integers(q, [x]))[out])
    step = float(q.activations[out].scale)
    for form, export in (("onnx", export_onnx_int8), ("tflite", export_tflite_int8)):
        written = export(q, version="0")
        (got,) = infer(form, q.graph, written, [x])
        off = np.abs(got - golden) / step
        # A float sum in another order may fall on the other side of a rounding: 1 LSB, and rarely.
        assert off.max() < 3, form
        assert (off > 0.01).mean() < 0.1, form


def test_onnx_runtime_keeps_float_layers_float(net: nn.Module, tmp_path: Path) -> None:
    import onnx
    import onnxruntime as ort

    q = made(net, Recipe(name="r", overrides=(Override(layers="body.*", precision="float"),)))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as edgecnn's own sessions
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(export_onnx_int8(q, version="0").data, options)
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    names = {kind: {n.name.split(".")[0] for n in nodes if n.op_type == kind} for kind in ("Conv", "QLinearConv")}
    assert names["Conv"] == {"body"}
    assert {name.split("_")[0] for name in names["QLinearConv"]} == {"stem", "side"}
    assert sum(n.op_type == "Conv" and n.name.startswith("body") for n in nodes) == 2


def test_a_reshape_is_float_where_its_input_is(net: nn.Module) -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2).permute(0, 2, 3, 1).relu()

    graph = prepare(capture(Flat().eval(), [torch.zeros(1, *SHAPE)]))
    moved = next(n for n in graph.nodes if type(n.op).__name__ == "Transpose")
    scaled = moved.inputs[0]
    for chosen, floats in ((moved.name, set()), (scaled, {moved.name, scaled})):
        q = quantize(
            graph, observe(graph, [[samples()]]), parse_recipe({"layers": {chosen: {"precision": "float"}}}, name="r")
        )
        assert q.skipped == floats
