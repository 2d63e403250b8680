"""The cost of an export grows with the number of layers, and no faster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from edgecnn.capture.simplify import simplify
from edgecnn.export.onnx.export import export_onnx, export_onnx_int8
from edgecnn.export.tflite.export import export_tflite, export_tflite_int8
from edgecnn.graph import ops
from edgecnn.graph.analysis import analyse
from edgecnn.graph.graph import Graph, GraphBuilder
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize

FEW, MANY = 12, 60
ALLOWED = 1.3
"""How much more a layer may cost in the larger net; what is done once for all makes it less."""


@cache
def _net(blocks: int) -> Graph:
    """Residual blocks with a batch norm, a hard swish and a strided slice of groups, all under the same names."""
    b = GraphBuilder()
    rng = np.random.default_rng(0)
    x = b.input("x", (1, 4, 6, 6))
    for _ in range(blocks):
        weight = b.constant("weight", rng.normal(size=(4, 2, 3, 3)).astype(np.float32) / 4)
        conv = ops.Conv2d(x=x, weight=weight, bias=None, padding=ops.Padding(1, 1, 1, 1), groups=2)
        y = b.add(ops.Mul(x=b.add(conv, "conv"), y=b.constant("gain", rng.normal(size=(4, 1, 1)))), "norm")
        y = b.add(ops.Add(x=y, y=b.constant("shift", rng.normal(size=(4, 1, 1)))), "norm")
        pool = ops.MaxPool2d(
            x=b.add(ops.HardSwish(x=y), "act"),
            kernel=(3, 3),
            stride=(1, 1),
            dilation=(1, 1),
            padding=ops.Padding(1, 1, 1, 1),
        )
        x = b.add(ops.Sigmoid(x=b.add(ops.Add(x=b.add(pool, "pool"), y=x), "sum")), "gate")
    b.output("output", x)
    return b.build()


def _calls(work: Callable[[], Any]) -> tuple[int, Any]:
    """Calls of functions, Python's and C's, that a piece of work makes."""
    count = 0

    def note(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = work()
    finally:
        sys.setprofile(before)
    return count, result


def _quantized(graph: Graph) -> Any:
    legal = prepare(graph)
    return quantize(legal, observe(legal, [[np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype(np.float32)]]))


@cache
def _simple(blocks: int) -> Graph:
    return simplify(_net(blocks))


@cache
def _integers(blocks: int) -> Any:
    return _quantized(_simple(blocks))


STEPS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "simplify": (_net, simplify),
    "onnx": (_simple, lambda g: export_onnx(g, version="0")),
    "tflite": (_simple, lambda g: export_tflite(g, version="0")),
    "quantize": (_simple, _quantized),
    "onnx int8": (_integers, lambda q: export_onnx_int8(q, version="0")),
    "tflite int8": (_integers, lambda q: export_tflite_int8(q, version="0")),
    "analyse": (_simple, analyse),
}


@pytest.mark.parametrize("step", STEPS)
def test_calls_per_layer_do_not_grow(step: str) -> None:
    before, work = STEPS[step]
    per_layer = []
    for blocks in (FEW, MANY):
        given = before(blocks)
        calls, _ = _calls(lambda given=given: work(given))
        per_layer.append(calls / blocks)
    assert per_layer[1] <= ALLOWED * per_layer[0], f"{step}: {per_layer[0]:.0f} calls a layer, then {per_layer[1]:.0f}"
