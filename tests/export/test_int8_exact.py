"""The golden integer executor against the runtimes: every operator alone, on golden integers.

``benchmarks/int8_exactness.py`` runs the same comparison on a million values per kind of operator and runtime.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, CORE, Case
from cases.base import captured, conv, linear, seq
from support.int8 import (
    CALIBRATION,
    EXECUTORS,
    EXPORTERS,
    NETWORKS,
    Compared,
    images,
    integers,
    network,
    quantized,
    quantized_graph,
    quantized_network,
    run,
    teacher_forced,
)
from torch import nn

from edgecnn.errors import QuantizationError
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8.depthwise import adapt_depthwise
from edgecnn.export.onnx.int8.exact import METADATA, exact_float_layers
from edgecnn.export.onnx.int8.folding import folds
from edgecnn.golden.float import execute_float
from edgecnn.golden.integer import execute_integer
from edgecnn.graph.verify import batch_is_free
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.prepare import prepare

SAMPLES = 3
INEXACT = {"Add", "Mean", "Sigmoid", "Softmax", "Sub", "Tanh"}
"""Kinds of operators that a runtime may round otherwise where a real result lies between two integers."""

REFUSED: Mapping[str, Mapping[str, tuple[type[Exception], str]]] = {
    "div": dict.fromkeys(EXPORTERS, (QuantizationError, r"div \(Div\): division by a computed value has no int8 form")),
}
"""Cases that have no int8 form, and the words that the user reads."""

MORE: tuple[Case, ...] = (
    Case("cat of a sigmoid and an image", seq(lambda x: torch.cat([x.sigmoid(), x], 1), conv(6, 4, 3))),
    Case("cat of a sigmoid and a tanh", seq(lambda x: torch.cat([x.sigmoid(), x.tanh()], 1))),
    Case("cat of sigmoids", seq(lambda x: torch.cat([x.sigmoid(), (x * 0.5).sigmoid()], 1))),
    Case("cat of a pooled softmax", seq(lambda x: torch.cat([F.max_pool2d(x.softmax(1), 2), F.max_pool2d(x, 2)], 1))),
    Case("cat of a cat", seq(lambda x: torch.cat([torch.cat([x.sigmoid(), x], 1), x * 3], 1))),
    Case("clamp above 0", seq(lambda x: x.clamp(0.4, 0.9))),
    Case("clamp below 0", seq(lambda x: x.clamp(-0.9, -0.4))),
    Case("clamp beyond the range", seq(lambda x: x.clamp(-50.0, 60.0))),
    Case("clamp to one value", seq(lambda x: x.clamp(-0.5, -0.5))),
    Case("divisors per channel", seq(lambda x: x / torch.tensor([0.5, -2.0, 3.0])[:, None, None])),
    Case("number divided by x", seq(lambda x: x / 7, lambda x: F.relu(x / 0.01))),
    Case("linear on the last axis of features", seq(linear(8, 5), nn.ReLU6()), ((4, 8),)),
    Case("linear on the last axis, twice", seq(linear(8, 6), nn.ReLU(), linear(6, 3)), ((3, 4, 8),)),
    Case("grouped convolution, many groups", seq(conv(12, 12, 3, padding=1, groups=4), nn.ReLU()), ((12, 8, 8),)),
    Case("mean kept, then scaled", seq(lambda x: x * x.mean((2, 3), keepdim=True))),
    Case("whole average pool", seq(nn.AvgPool2d((9, 8)), conv(3, 4, 1))),
    Case("convolution of negatives", seq(lambda x: -3 - x.relu(), conv(3, 4, 3, padding=1))),
)
"""What only quantization makes a corner of."""


def _judged(results: list[Compared]) -> None:
    for c in results:
        limit = 1 if c.kind in INEXACT else 0
        assert c.worst <= limit, (
            f"{c.node.describe()} on {c.executor}: {c.mismatches} of {c.values} differ, by up to {c.worst} at {c.place}"
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_of_networks(name: str, agent: Any) -> None:
    """On images of digits; XNNPACK and ONNX Runtime by one rule, the reference kernels by theirs."""
    q, data = quantized_network(name), images(network(name).input_shape, 16)
    results = list(teacher_forced(agent, q, integers(q, [data])))
    _judged(results)
    assert {c.executor for c in results} == set(EXECUTORS)


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name: str, agent: Any) -> None:
    q = quantized_network(name)
    given = integers(q, [images(network(name).input_shape, 128)])
    for executor, outputs in _whole(agent, q, given).items():
        golden = execute_integer(q, given, rounding=EXECUTORS[executor].rounding)
        for output, got in zip(q.graph.outputs, outputs, strict=True):
            assert np.array_equal(got, golden[output.value]), f"{output.name} on {executor}"


@pytest.mark.parametrize("case", [*CORE, *MORE], ids=lambda c: c.name)
def test_case(case: Case, agent: Any) -> None:
    """Each operator alone, then the whole, on a batch of several samples where the batch is free."""
    refused = REFUSED.get(case.name, {})
    q = _quantized_or_refused(case, refused)
    if q is None:
        return
    names = []
    for name, executor in EXECUTORS.items():
        if executor.form in refused:
            _assert_refused(q, executor.form, refused[executor.form])
        else:
            names.append(name)
    given = integers(q, case.inputs(SAMPLES if case.batch_free else 1))
    _judged(list(teacher_forced(agent, q, given, names)))
    outputs = _whole(agent, q, given, names)
    for name, got in outputs.items():
        golden = execute_integer(q, given, rounding=EXECUTORS[name].rounding)
        for output, values in zip(q.graph.outputs, got, strict=True):
            worst = np.abs(values - golden[output.value].astype(np.int64)).max()
            assert worst <= _reach(q), f"{output.name} on {name}: off by {worst}"


def _quantized_or_refused(case: Case, refused: Mapping[str, tuple[type[Exception], str]]) -> QuantizedGraph | None:
    graph, data = captured(case), case.inputs(CALIBRATION)
    if {kind for kind, _ in refused.values()} == {QuantizationError}:
        with pytest.raises(QuantizationError, match=refused["onnx"][1]):
            quantized_graph(graph, data)
        return None
    return quantized_graph(graph, data)


def _assert_refused(q: QuantizedGraph, form: str, words: tuple[type[Exception], str]) -> None:
    with pytest.raises(words[0], match=words[1]):
        EXPORTERS[form](q, version="0")


def _reach(q: QuantizedGraph) -> int:
    """How far a whole model's results may be off: 1 for each operator that may."""
    return sum(type(n.op).__name__ in INEXACT for n in q.graph.nodes)


def _whole(
    agent: Any, q: QuantizedGraph, given: list[np.ndarray], names: Any = tuple(EXECUTORS)
) -> dict[str, list[np.ndarray]]:
    written = {form: EXPORTERS[form](q, version="0") for form in {EXECUTORS[n].form for n in names}}
    return {n: run(agent, EXECUTORS[n], q, written[EXECUTORS[n].form], given) for n in names}


@pytest.mark.parametrize("case", [*CORE, *MORE], ids=lambda c: c.name)
def test_preparation_keeps_the_meaning(case: Case) -> None:
    graph = captured(case)
    assert batch_is_free(prepare(graph)) == batch_is_free(graph)
    arrays = [x.numpy() for x in case.inputs(1)]
    before, after = execute_float(graph, arrays), execute_float(prepare(graph), arrays)
    for old, new in zip(graph.outputs, prepare(graph).outputs, strict=True):
        assert np.allclose(before[old.value], after[new.value], rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("case", [*CORE, *MORE], ids=lambda c: c.name)
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


def test_refused_cases_exist() -> None:
    assert REFUSED.keys() <= {c.name for c in CORE}
    assert len({c.name for c in (*CASES, *MORE)}) == len(CASES) + len(MORE)
