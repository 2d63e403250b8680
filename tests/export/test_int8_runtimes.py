"""int8 files on every runtime that reads them: sizes, versions, tables, and each operator against the golden executor.

tflite-runtime and TFLite Micro live in environments of their own, named by ``EDGECNN_TFLITE_RUNTIME_PYTHON`` and
``EDGECNN_TFLITE_MICRO_PYTHON`` (an interpreter each), or found as ``.venv-tflite-runtime`` and ``.venv-tflite-micro``
beside the sources. Where one is missing, its tests are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert import schema_py_generated as schema
from cases import Fn
from support.int8 import (
    ALL,
    ELSEWHERE,
    NETWORKS,
    PYTHONS,
    Compared,
    alone,
    images,
    integers,
    network,
    python_of,
    quantized,
    quantized_graph,
    quantized_network,
    run,
    teacher_forced,
)
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.errors import TargetError
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.tflite import int8
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.export.tflite.write import symmetric
from edgecnn.golden.integer import execute_integer, execute_node
from edgecnn.graph.ops import Concat, Linear
from edgecnn.program.qparams import QWeights
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.targets.hosts.local import LocalHost

SAMPLES = 3
OPTIMIZED = "tflite-runtime"
"""The executor whose kernels mix rules."""
MIXED = {"Conv2d", "Depthwise", "Linear", "Mean"}
"""Kinds whose results it has off by 1 at times."""
TFLITE = [name for name, executor in ALL.items() if executor.form == "tflite"]
# The smallest int8 files of other tools for the same architectures, in bytes.
TFLITE_LIMITS = {"lenet5": 66_504, "conv_pool": 55_592, "resnet8": 93_136}
ONNX_LIMITS = {"lenet5": 73_678, "conv_pool": 58_504, "resnet8": 100_116}


@cache
def data(name: str) -> bytes:
    return export_tflite_int8(quantized_network(name), version="0").data


def graph_of(name: str) -> tuple[Any, Any]:
    model = schema.ModelT.InitFromPackedBuf(data(name), 0)
    return model, model.subgraphs[0]


def per_tensor(q: QuantizedGraph, *channels: int) -> QuantizedGraph:
    """The same graph with one scale for all channels of linear layers that have so many of them."""
    weights = dict(q.weights)
    for node in q.graph.nodes:
        if isinstance(node.op, Linear) and len(weights[node.op.weight].scales) in channels:
            own = weights[node.op.weight]
            scale = own.scales.max()
            whole = np.rint(own.dequantize() / scale).astype(np.int8)
            weights[node.op.weight] = QWeights(whole, np.full_like(own.scales, scale))
    return replace(q, weights=weights)


@pytest.fixture(scope="module")
def agent_for(agent: Any) -> Iterator[Callable[[str], Any]]:
    """Give the agent that has a runtime, or skip the test."""
    with ExitStack() as stack:

        @cache
        def start(name: str) -> Any:
            if name not in PYTHONS:
                return agent
            python = python_of(name)
            return stack.enter_context(LocalHost(python).start()) if python else None

        def given(name: str) -> Any:
            connection = start(name)
            if connection is None:
                pytest.skip(f"{PYTHONS[name]} is not set, and there is no .venv-{name} beside the sources")
            assert name in connection.hello().runtimes, f"{name} is not installed where {PYTHONS[name]} points to"
            return connection

        yield given


# --- what the file holds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "limit"), TFLITE_LIMITS.items())
def test_tflite_is_at_most_the_smallest_of_other_tools(name: str, limit: int) -> None:
    assert len(data(name)) <= limit


@pytest.mark.parametrize(("name", "limit"), ONNX_LIMITS.items())
def test_onnx_is_at_most_the_smallest_of_other_tools(name: str, limit: int) -> None:
    assert len(export_onnx_int8(quantized_network(name), version="0").data) <= limit


def test_quantized_dimension_and_tables() -> None:
    """Output channels: the last axis for depthwise, the first for convolutions, one scale for a linear layer."""
    model, graph = graph_of("depthwise")
    builtin = schema.BuiltinOperator
    axes = {builtin.CONV_2D: 0, builtin.DEPTHWISE_CONV_2D: 3, builtin.FULLY_CONNECTED: 0}
    seen = set()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code not in axes:
            continue
        x, weights, bias = (graph.tensors[i] for i in operator.inputs)
        assert weights.quantization.quantizedDimension == axes[code]
        scales = 1 if code == builtin.FULLY_CONNECTED else weights.shape[axes[code]]
        assert len(weights.quantization.scale) == scales
        assert weights.shape[axes[code]] == bias.shape[0]
        assert not weights.quantization.zeroPoint.any()
        products = x.quantization.scale[0] * weights.quantization.scale
        np.testing.assert_array_equal(bias.quantization.scale, products)
        seen.add(code)
    assert seen == set(axes)


def test_operator_versions() -> None:
    """The first version of each operator that has int8 (tensorflow/lite/tools/versioning/op_version.cc)."""
    first = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "QUANTIZE": 1, "RESHAPE": 1}
    names = {value: key for key, value in vars(schema.BuiltinOperator).items()}
    found = [(names[c.builtinCode], c.version) for name in NETWORKS for c in graph_of(name)[0].operatorCodes]
    assert {name for name, _ in found} >= {"ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D"}
    assert [(name, version) for name, version in found if version != first.get(name, 2)] == []


def test_equal_vectors_are_stored_once() -> None:
    """16 zero points are held by four layers of ResNet-8 and their biases."""
    buf = data("resnet8")
    graph = schema.Model.GetRootAs(buf, 0).Subgraphs(0)
    places = set()
    for i in range(graph.TensorsLength()):
        table = graph.Tensors(i).Quantization()
        if table is not None and table.ZeroPointLength() == 16:
            places.add(table._tab.Vector(table._tab.Offset(10)))
    assert len(places) == 1


# --- what runtimes compute --------------------------------------------------------------------------------------------


def judge(
    agent_for: Callable[[str], Any], executor: str, q: QuantizedGraph, inputs: list[np.ndarray]
) -> list[Compared]:
    """Every operator of a graph alone on one executor, exact but where the executor is known not to be."""
    results = list(teacher_forced(agent_for(ALL[executor].runtime), q, inputs, [executor]))
    for result in results:
        assert result.worst <= (result.kind in MIXED if executor == OPTIMIZED else 0), result
    return results


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("executor", ELSEWHERE)
def test_each_operator(agent_for, executor: str, name: str) -> None:
    q = quantized_network(name)
    judge(agent_for, executor, q, integers(q, [images(network(name).input_shape, SAMPLES)]))


# Inputs hold every int8 value; a clamp whose result is pooled has its own parameters, and so has the whole of a
# concatenation with x, in which no clamp ends where the parameters do.
CLAMPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "relu_n1_to_1": F.hardtanh,
    "relu_0_to_1": lambda x: x.clamp(0, 1),
    "from below 0": lambda x: x.clamp(-0.7, 0.9),
    "from above 0": lambda x: x.clamp(0.4, 0.9),
    "upper bound alone": lambda x: x.clamp(max=0.3),
}
ONE_OPERATOR = {"MUL"}
BOUNDED = {"MAXIMUM", "MINIMUM"}


@cache
def clamped(name: str, shares: bool) -> list[tuple[QuantizedGraph, list[np.ndarray]]]:
    """A clamp on every int8 value, at several pairs of parameters."""
    clamp, rng = CLAMPS[name], np.random.default_rng(0)
    x = np.zeros((1, 16, 4, 4), np.float32)
    graph = capture(Fn(lambda x: torch.cat([clamp(x), x], 1) if shares else clamp(x)), [torch.from_numpy(x)])
    found = []
    for _ in range(6):
        steps = np.arange(-128, 128) + rng.integers(-40, 40)
        x = (steps * rng.uniform(0.005, 0.1)).astype(np.float32).reshape(x.shape)
        q = quantized_graph(graph, [x])
        found.append((q, integers(q, [x])))
    return found


@pytest.mark.parametrize("shares", [False, True], ids=["own parameters", "parameters of a concatenation"])
@pytest.mark.parametrize("name", CLAMPS)
@pytest.mark.parametrize("executor", TFLITE)
def test_clamps_alone(agent_for, executor: str, name: str, shares: bool) -> None:
    """No value is off on any runtime."""
    found = set()
    for q, given in clamped(name, shares):
        results = judge(agent_for, executor, q, given)
        (alone_in,) = (r.node for r in results if r.kind in {"Clamp", "Relu"})
        found |= set(export_tflite_int8(alone(q, alone_in), version="0").operators)
    assert found <= {"QUANTIZE", "DEQUANTIZE", "RESHAPE"} | ONE_OPERATOR | BOUNDED
    assert found & (BOUNDED if shares else ONE_OPERATOR)


@cache
def concatenated() -> list[tuple[QuantizedGraph, list[np.ndarray]]]:
    """Parts of other parameters than the whole: every int8 value, at many pairs of scales."""
    rng, found = np.random.default_rng(1), []
    empty = [torch.zeros(1, 16, 4, 4)] * 2
    graph = capture(Fn(lambda x, y: torch.cat([x.sigmoid(), x.tanh(), y], 1)), empty)
    for _ in range(8):
        x, y = (
            ((np.arange(-128, 128) + rng.integers(-100, 100)) * rng.uniform(0.001, 0.1)).astype(np.float32)
            for _ in range(2)
        )
        inputs = [a.reshape(1, 16, 4, 4) for a in (x, y)]
        q = quantized_graph(graph, inputs)
        found.append((q, integers(q, inputs)))
    return found


@pytest.mark.parametrize("executor", TFLITE)
def test_requantization_by_a_multiplication(agent_for, executor: str) -> None:
    """A concatenation multiplies by 1 what has other parameters."""
    for q, given in concatenated():
        (cat,) = (n for n in q.graph.nodes if isinstance(n.op, Concat))
        assert export_tflite_int8(alone(q, cat), version="0").operators["MUL"] == 2
        judge(agent_for, executor, q, given)


@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 8)], ids=["3 axes", "4 axes"])
@pytest.mark.parametrize("executor", TFLITE)
def test_linear_on_more_axes(agent_for, executor: str, shape: tuple[int, ...]) -> None:
    """Rows and a RESHAPE: with keep_num_dims the reference kernels of tflite-runtime 2.14 compute nonsense."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((64, *shape)).astype(np.float32)
    q = quantized(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval(), [x])
    results = judge(agent_for, executor, q, integers(q, [x]))
    assert sum(r.kind == "Linear" for r in results) == 2


def test_reference_kernels_round_linear_layers_otherwise(agent_for) -> None:
    """LiteRT's reference kernels once, the others twice: each rule has values that the other kernels contradict."""
    q = quantized_network("lenet5")
    inputs = integers(q, [images((1, 28, 28), 128)])
    linear = [n for n in q.graph.nodes if isinstance(n.op, Linear)]
    for executor in ("reference", "tflite-runtime reference", "tflite-micro"):
        own = ALL[executor]
        other = "gemmlowp" if executor == "reference" else "litert_reference"
        golden = execute_integer(q, inputs, rounding=own.rounding)
        off = {own.rounding: 0, other: 0}
        for node in linear:
            one = alone(q, node)
            written = export_tflite_int8(one, version="0")
            (got,) = run(agent_for(own.runtime), own, one, written, [golden[i.name] for i in one.graph.inputs])
            for rounding in off:
                off[rounding] += int((got != execute_node(one, node, golden, rounding=rounding)).sum())
        assert off[own.rounding] == 0 < off[other], executor


@pytest.mark.parametrize("runtime", ["litert", *PYTHONS])
def test_one_scale_for_all_channels_changes_no_integer(agent_for, monkeypatch, runtime: str) -> None:
    """A linear layer whose channels share a scale is written with one; as many equal ones give the same."""
    q, x = per_tensor(quantized_network("lenet5"), 120, 84, 10), images((1, 28, 28), 20).transpose(0, 2, 3, 1).copy()
    files = [export_tflite_int8(q, version="0").data]
    monkeypatch.setattr(int8, "_of_weights", lambda _, s, axis: symmetric(s, axis))
    files.append(export_tflite_int8(q, version="0").data)
    assert len(files[0]) < len(files[1])
    outputs = []
    for file in files:
        with agent_for(runtime).open(runtime, file, "lenet5.tflite") as session:
            outputs.append(session.infer([x])[0])
    np.testing.assert_array_equal(*outputs)


# --- TFLite Micro's own -----------------------------------------------------------------------------------------------


def test_micro_tells_its_arena(agent_for) -> None:
    """The number is enough, and 16 bytes less are not."""
    agent = agent_for("tflite-micro")
    with agent.open("tflite-micro", data("conv_pool"), "net.tflite") as session:
        needed = session.arena_bytes
    agent.open("tflite-micro", data("conv_pool"), "net.tflite", arena_bytes=needed).close()
    with pytest.raises(TargetError, match="failed to allocate"):
        agent.open("tflite-micro", data("conv_pool"), "net.tflite", arena_bytes=needed - 16)


def test_micro_runs_batches_in_pieces(agent_for) -> None:
    x = images((1, 28, 28), 5).transpose(0, 2, 3, 1).copy()
    with agent_for("tflite-micro").open("tflite-micro", data("lenet5"), "net.tflite") as session:
        assert [(t.name, t.shape) for t in session.inputs] == [("x", (None, 28, 28, 1))]
        assert [(t.name, t.shape) for t in session.outputs] == [("output", (None, 10))]
        whole = session.infer([x])[0]
        np.testing.assert_array_equal(whole, np.concatenate([session.infer([x[i : i + 1]])[0] for i in range(5)]))
        with pytest.raises(TargetError, match="cannot run on empty inputs"):
            session.infer([x[:0]])
        with pytest.raises(TargetError, match=r"has the shape"):
            session.infer([x[:, :27]])


@pytest.mark.parametrize(
    ("artifact", "options", "words"),
    [
        (b"no artifact at all", {}, "is no TFLite file"),
        (None, {"threads": 2}, "has one thread, not 2"),
        (None, {"arena_bytes": 0}, "arena_bytes is 0"),
        (None, {"xnnpack": True}, "has no option 'xnnpack'"),
    ],
    ids=str,
)
def test_micro_refuses(agent_for, artifact: bytes | None, options, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        agent_for("tflite-micro").open("tflite-micro", artifact or data("conv_pool"), "net.tflite", **options)
