"""int8-dynamic: what its files compute, their versions and notes."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from cases import CASES
from cases.base import captured
from support.exporters import LIMIT
from support.precisions import REFERENCE, ZOO, operator_code, operator_codes, outputs_of, zoo_model

from edgecnn.export.tflite.dynamic import export_tflite_int8_dynamic
from edgecnn.export.tflite.export import export_tflite
from edgecnn.golden.float import execute_float
from edgecnn.graph.graph import Graph
from edgecnn.parity.metrics import relative_error
from edgecnn.program.half_weights import weighted_nodes
from edgecnn.program.integer_weights import quantize_weights


def _rounded_input(x: np.ndarray) -> np.ndarray:
    """What a hybrid kernel makes of a layer's input: 255 steps from lowest to highest of each sample, 0 among them."""
    rows = x.reshape(len(x), -1).astype(np.float64)
    low, high = np.minimum(rows.min(1), 0), np.maximum(rows.max(1), 0)
    step = ((high - low) / 255)[:, None]
    zero = np.rint(-128 - low[:, None] / step)
    return ((np.clip(np.rint(rows / step) + zero, -128, 127) - zero) * step).astype(np.float32).reshape(x.shape)


def _int8_weights(graph: Graph) -> Graph:
    integers = {n: quantize_weights(node, graph.constants[n]).dequantize() for n, node in weighted_nodes(graph).items()}
    return replace(graph, constants=MappingProxyType({**graph.constants, **integers}))


HYBRID = ("conv stride 2 padding 1 dilation 1 on 9x9", "conv padding valid", "conv relu6", "linear on vectors")


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
@pytest.mark.parametrize("name", HYBRID)
def test_dynamic_layers_are_computed_in_integers(name: str, kernels: str, agent) -> None:
    case = next(c for c in CASES if c.name == name)
    graph, arrays = captured(case), [x.numpy() for x in case.inputs(3)]
    written = export_tflite_int8_dynamic(graph, version="0")
    (got,) = outputs_of(agent, graph, written, arrays, **(REFERENCE if kernels == "reference" else {}))
    integers, name = _int8_weights(graph), graph.outputs[0].value
    expected = execute_float(integers, [_rounded_input(x) for x in arrays])[name]
    in_float = execute_float(integers, arrays)[name]
    assert relative_error(got, expected) < 0.25 * relative_error(got, in_float)


@pytest.mark.parametrize("options", [{}, REFERENCE], ids=["xnnpack", "reference"])
@pytest.mark.parametrize("name", ["depthwise", "depthwise multiplier 3", "depthwise dilated"])
def test_dynamic_depthwise_is_int8_weights_in_float(name: str, options: dict, agent) -> None:
    case = next(c for c in CASES if c.name == name)
    graph, arrays = captured(case), [x.numpy() for x in case.inputs(3)]
    written = export_tflite_int8_dynamic(graph, version="0")
    (got,) = outputs_of(agent, graph, written, arrays, **options)
    assert relative_error(got, execute_float(_int8_weights(graph), arrays)[graph.outputs[0].value]) <= LIMIT
    assert written.operators["DEQUANTIZE"] == 1
    assert any("depthwise" in n for n in written.notes)


@pytest.mark.parametrize("name", ZOO)
def test_dynamic_zoo(name: str, agent) -> None:
    graph, x = zoo_model(name)
    written = export_tflite_int8_dynamic(graph, version="0")
    assert len(written.data) <= 0.29 * len(export_tflite(graph, version="0").data)
    assert "DEQUANTIZE" not in written.operators
    (got,) = outputs_of(agent, graph, written, [x])
    assert relative_error(got, execute_float(graph, [x])[graph.outputs[0].value]) <= 0.03


def test_dynamic_versions_and_notes() -> None:
    case = next(c for c in CASES if c.name == "flatten linear")
    written = export_tflite_int8_dynamic(captured(case), version="0")
    assert {(operator_code("CONV_2D"), 5), (operator_code("FULLY_CONNECTED"), 12)} <= operator_codes(written.data)
    assert any("tflite-runtime 2.14" in n for n in written.notes)
    whole = export_tflite_int8_dynamic(captured(case), version="0", per_channel_linear=False)
    assert (operator_code("FULLY_CONNECTED"), 9) in operator_codes(whole.data)
    assert whole.notes == ()
