"""int8 files on every runtime that reads TFLite: each operator against the golden executor.

tflite-runtime and TFLite Micro live in environments of their own (tests/support/environments.py). Where one is missing,
its tests are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import Fn
from support.int8 import (
    ALL,
    ELSEWHERE,
    NETWORKS,
    Compared,
    alone,
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

from edgecnn.capture.capture import capture
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.golden.integer import execute_integer, execute_node
from edgecnn.graph.ops import Concat, Linear
from edgecnn.program.quantized import QuantizedGraph

SAMPLES = 3
OPTIMIZED = "tflite-runtime"
"""The executor whose kernels mix rules."""
MIXED = {"Conv2d", "Depthwise", "Linear", "Mean"}
"""Kinds whose results it has off by 1 at times."""
TFLITE = [name for name, executor in ALL.items() if executor.form == "tflite"]


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
