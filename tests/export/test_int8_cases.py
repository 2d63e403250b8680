"""Every row of the operator table in int8: each operator alone, on the integers that the golden executor gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES, Case
from cases.base import captured
from support.int8 import EXECUTORS, integers, quantized_graph, signature, teacher_forced

from edgecnn.errors import QuantizationError
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.golden.float_layers import as_real
from edgecnn.golden.integer import execute_integer
from edgecnn.graph import ops
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import NO_INT8_FORM
from edgecnn.quantize.recipe import Override, Recipe

SAMPLES = 4
EXACT = {
    kind.__name__
    for kind in (
        ops.MaxPool2d,
        ops.Reshape,
        ops.Transpose,
        ops.Slice,
        ops.Pad,
        ops.Gather,
        ops.GatherImage,
        ops.DepthToSpace,
        ops.SpaceToDepth,
        ops.Amax,
        ops.Amin,
    )
}
"""Operators that move or choose integers: no runtime may differ by anything."""


UNREFERENCED = (ops.Elu,)
"""Operators that LiteRT's reference kernels lack."""
FORMATS = {"onnx": export_onnx_int8, "tflite": export_tflite_int8}


@pytest.fixture(scope="module")
def seen() -> set[Any]:
    """Operators that a case before has tested: the same class, settings and shapes."""
    return set()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_case_in_int8(case: Case, agent, seen) -> None:
    inputs = [np.asarray(x) for x in case.inputs(SAMPLES if case.batch_free else 1)]
    if case.int8:
        with pytest.raises(QuantizationError, match=case.int8):
            quantized_graph(captured(case), inputs)
        return
    q = quantized_graph(captured(case), inputs)
    new = [n for n in q.graph.nodes if signature(n, q.graph.shapes) not in seen]
    names = [name for name in EXECUTORS if name != "reference" or not any(isinstance(n.op, UNREFERENCED) for n in new)]
    for found in teacher_forced(agent, q, integers(q, inputs), names, new):
        exact = found.kind in EXACT
        assert found.worst <= (0 if exact else 1), f"{found.node.describe()} on {found.executor}: {found}"
    seen.update(signature(n, q.graph.shapes) for n in new)


@pytest.mark.parametrize("case", [c for c in CASES if c.int8 and "argmax" not in c.int8], ids=lambda c: c.name)
def test_what_int8_refuses_a_recipe_keeps_float(case: Case, agent) -> None:
    inputs = [np.asarray(x) for x in case.inputs(SAMPLES)]
    graph = captured(case)
    kept = [n.name for n in prepare(graph).nodes if type(n.op) in NO_INT8_FORM]
    recipe = Recipe(name="float", overrides=tuple(Override(layers=name, precision="float") for name in kept))
    q = quantized_graph(graph, inputs, recipe=recipe)
    given = integers(q, inputs)
    values = execute_integer(q, given)
    for name in ("onnxruntime", "xnnpack"):
        executor = EXECUTORS[name]
        written = FORMATS[executor.form](q, version="0")
        for output, real in zip(q.graph.outputs, _reals(agent, executor, q, written, inputs), strict=True):
            steps = np.abs(real - as_real(q, output.value, values[output.value])) / q.activations[output.value].scale
            assert steps.max() <= 1.01, f"{output.name} on {name}"


def _reals(agent: Any, executor: Any, q: Any, written: Any, inputs: Any) -> Any:
    stored = [
        np.ascontiguousarray(x.transpose(written.axes[i.name])) for i, x in zip(q.graph.inputs, inputs, strict=True)
    ]
    with agent.open(executor.runtime, written.data, f"int8.{executor.form}", **executor.options) as session:
        outputs = session.infer(stored)
    return [o.transpose(np.argsort(written.axes[i.name])) for o, i in zip(outputs, q.graph.outputs, strict=True)]
