"""tflite-runtime 2.14 on files of fp16, int8-dynamic and int16x8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES
from cases.base import captured
from support.exporters import LIMIT
from support.precisions import REFERENCE, ZOO, integers16, outputs_of, quantized16, run16, zoo_model

from edgecnn.export.tflite.dynamic import export_tflite_int8_dynamic
from edgecnn.export.tflite.export import export_tflite
from edgecnn.export.tflite.fp16 import export_tflite_fp16
from edgecnn.golden.float import execute_float
from edgecnn.golden.integer16 import execute_int16
from edgecnn.parity.metrics import relative_error
from edgecnn.program.half_weights import half_weights
from edgecnn.quantize.prepare import prepare


@pytest.fixture
def old(agent_for) -> Any:
    """The agent that has tflite-runtime 2.14."""
    return agent_for("tflite-runtime")


@pytest.mark.parametrize("name", ZOO)
def test_tflite_runtime(name: str, old) -> None:
    graph, x = zoo_model(name)
    output = graph.outputs[0].value
    (got,) = outputs_of(old, graph, export_tflite_fp16(graph, version="0"), [x], "tflite-runtime")
    assert relative_error(got, execute_float(half_weights(graph), [x])[output]) <= LIMIT
    written = export_tflite_int8_dynamic(graph, version="0", per_channel_linear=False)
    (got,) = outputs_of(old, graph, written, [x], "tflite-runtime")
    assert relative_error(got, execute_float(graph, [x])[output]) <= 0.03
    q = quantized16(graph, [x])
    golden = execute_int16(q, integers16(q, [x]), linear="rescale15")[output]
    (got,) = run16(old, q, integers16(q, [x]), runtime="tflite-runtime")
    assert np.abs(got - golden).max() <= (4 if name == "resnet8" else 0)


@pytest.mark.parametrize("options", [{}, REFERENCE], ids=["optimized", "reference"])
@pytest.mark.parametrize("name", ["linear on the last axis", "linear on the last axis, no bias, relu"])
def test_tflite_runtime_linear_on_more_axes(name: str, options: dict, old) -> None:
    """Rows and a RESHAPE: with keep_num_dims its int16 kernels, and the reference ones of all types, go wrong."""
    case = next(c for c in CASES if c.name == name)
    graph, x = prepare(captured(case)), [a.numpy() for a in case.inputs(4)]
    output = graph.outputs[0].value
    expected = execute_float(graph, x)[output]
    (got,) = outputs_of(old, graph, export_tflite(graph, version="0"), x, "tflite-runtime", **options)
    assert relative_error(got, expected) <= LIMIT
    written = export_tflite_int8_dynamic(graph, version="0", per_channel_linear=False)
    (got,) = outputs_of(old, graph, written, x, "tflite-runtime", **options)
    assert relative_error(got, expected) <= 0.03
    q = quantized16(graph, x)
    (got,) = run16(old, q, integers16(q, x), runtime="tflite-runtime", **options)
    np.testing.assert_array_equal(got, execute_int16(q, integers16(q, x), linear="rescale15")[output])
