"""ONNX Runtime computes nothing in float in an int8 file that it has an integer kernel for."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import onnx
import pytest
from cases import CORE, Case
from cases.base import captured
from cases.int8_corners import INT8_CORNERS
from support.int8 import NETWORKS, images, network, quantized, quantized_graph
from support.int8_cases import REFUSED

from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8.depthwise import adapt_depthwise
from edgecnn.export.onnx.int8.exact import METADATA, exact_float_layers
from edgecnn.export.onnx.int8.folding import folds
from edgecnn.program.quantized import QuantizedGraph

KEPT_FLOAT = {"Clip", "MaxPool", "ReduceMean", "Sub", "Tanh"}
"""What ONNX Runtime has no integer kernel for (or only in some places), and computes between a pair."""
MOVES = {
    "Flatten",
    "Identity",
    "MaxPool",
    "NhwcMaxPool",
    "Pad",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
} | {
    "ReorderInput",
    "ReorderOutput",
}
INTEGER = {"DequantizeLinear", "QuantizeLinear", "QGemm"}


@pytest.mark.parametrize("case", [*CORE, *INT8_CORNERS], ids=lambda c: c.name)
def test_onnx_runtime_keeps_nothing_in_float(case: Case, tmp_path: Path) -> None:
    if "onnx" in REFUSED.get(case.name, {}):
        return
    _assert_fused(_optimized(quantized_graph(captured(case), case.inputs(8)), tmp_path))


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_keeps_nothing_of_networks_in_float(name: str, tmp_path: Path) -> None:
    module = network(name)
    q = quantized(module, [images(module.input_shape, 8)])
    counts = _optimized(q, tmp_path)
    _assert_fused(counts)
    assert not counts.keys() & KEPT_FLOAT
    behind_integers = {
        n.name
        for n in q.graph.nodes
        if n.name in exact_float_layers(adapt_depthwise(q).quantized) and n.inputs[0] in folds(q)
    }
    assert (counts["QuantizeLinear"], counts["DequantizeLinear"]) == (1 + len(behind_integers), 1)


def _assert_fused(counts: Counter[str]) -> None:
    """No Conv, Gemm, MatMul, Add or Mul among what is left, nor anything else that has an integer kernel."""
    left = {k for k in counts if not k.startswith("QLinear")} - INTEGER - MOVES - KEPT_FLOAT
    assert not left, dict(counts)


def _optimized(q: QuantizedGraph, folder: Path) -> Counter[str]:
    """The operators of ONNX Runtime's own optimized model."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # works only before the import
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as edgecnn's own sessions
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = export_onnx_int8(q, version="0").data
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    marks = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
    exact = set(json.loads(marks[METADATA])["tensors"]) if marks else set()
    graph = onnx.load(folder / "optimized.onnx").graph
    inputs = {i.name for i in graph.input}
    # Beside layers that are float by intention, an input's own Mul is the one float operator that belongs there.
    named = [n for n in graph.node if not {n.name.removesuffix("_nchwc"), n.output[0]} & exact]
    return Counter(n.op_type for n in named if n.op_type != "Mul" or not inputs & set(n.input))
