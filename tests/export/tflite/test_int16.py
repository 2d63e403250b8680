"""int16x8: each operator on golden inputs, whole models, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from cases import CASES, CORE, Case
from cases.base import captured
from support.precisions import (
    REFERENCE,
    ZOO,
    alone16,
    integers16,
    operator_code,
    operator_codes,
    quantized16,
    run16,
    zoo_model,
)
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.errors import LoweringError, QuantizationError
from edgecnn.export.tflite.int16 import export_tflite_int16x8
from edgecnn.golden.float import execute_float
from edgecnn.golden.integer16 import execute_int16
from edgecnn.graph.ops import Add, Conv2d, Linear, Sub
from edgecnn.parity.metrics import relative_error
from edgecnn.quantize.prepare import prepare

NO_INT16 = {
    "div": "division by a computed value",
    "bounds that differ in the 8th digit": "the sum is too small",
    "activation LeakyReLU(negative_slope=0.01)": "LEAKY_RELU has no int16 kernel",
    "conv transpose bn relu": "DEPTH_TO_SPACE has no int16 kernel",
    "arithmetic sqrt": "square roots have no int16 kernel",
}
INT16 = [c for i, c in enumerate(CORE) if c.name not in NO_INT16 and ("kernel" not in c.name or i % 4 == 0)]
"""Every row but most of the poolings, which are many."""
EXACT = (Conv2d, Linear, Add, Sub)
CORRECTED = 4
"""Averages that no TFLite padding fits are written as a padding, an average and a factor of up to 4."""


@pytest.mark.parametrize("case", INT16, ids=lambda c: c.name)
def test_int16x8_operators_on_golden_inputs(case: Case, agent) -> None:
    graph = prepare(captured(case))
    arrays = [x.numpy() for x in case.inputs(4 if case.batch_free else 1)]
    q = quantized16(graph, arrays)
    golden = execute_int16(q, integers16(q, arrays))
    for node in q.graph.nodes:
        one = alone16(q, node)
        (got,) = run16(agent, one, [golden[i.name] for i in one.graph.inputs], **REFERENCE)
        off = np.abs(got - golden[node.name]).max(initial=0)
        assert off <= (0 if isinstance(node.op, EXACT) else CORRECTED), node.describe()


@pytest.mark.parametrize("name", NO_INT16)
def test_int16x8_refuses_by_name(name: str) -> None:
    case = next(c for c in CASES if c.name == name)
    graph = prepare(captured(case))
    with pytest.raises((QuantizationError, LoweringError), match=NO_INT16[name]):
        export_tflite_int16x8(quantized16(graph, [x.numpy() for x in case.inputs(2)]), version="0")


@pytest.mark.parametrize("options", [{}, REFERENCE], ids=["xnnpack", "reference"])
@pytest.mark.parametrize("name", ZOO)
def test_int16x8_zoo(name: str, options: dict, agent) -> None:
    """Whole networks: what is exact alone is exact in a row; resnet8's global average may differ by 1, and spreads."""
    graph, x = zoo_model(name)
    q = quantized16(graph, [x])
    output = graph.outputs[0].value
    golden, expected = execute_int16(q, integers16(q, [x]))[output], execute_float(graph, [x])[output]
    (got,) = run16(agent, q, integers16(q, [x]), **options)
    assert np.abs(got - golden).max() <= (4 if name == "resnet8" else 0)
    assert relative_error(got * q.activations[output].scale, expected) < 0.03


def test_int16x8_versions_types_and_scales() -> None:
    case = next(c for c in CASES if c.name == "depthwise separable")
    graph = prepare(captured(case))
    written = export_tflite_int16x8(quantized16(graph, [x.numpy() for x in case.inputs(2)]), version="0")
    assert operator_codes(written.data) == {
        (operator_code(n), v) for n, v in {"QUANTIZE": 2, "DEPTHWISE_CONV_2D": 5, "CONV_2D": 4, "DEQUANTIZE": 3}.items()
    }
    tensors = schema.ModelT.InitFromPackedBuf(written.data, 0).subgraphs[0].tensors
    kinds = {t.name.decode(): t for t in tensors}
    types = schema.TensorType
    biases = [t for n, t in kinds.items() if n.endswith(".bias")]
    assert {t.type for t in biases} == {types.INT64}
    assert {t.type for t in tensors} == {types.FLOAT32, types.INT16, types.INT8, types.INT64}
    assert all(not t.quantization.zeroPoint.any() for t in tensors if t.type != types.FLOAT32)


def test_int16x8_shared_scales_that_cannot_be() -> None:
    graph = capture(_Mixed(), [torch.zeros(1, 2, 4, 4)])
    with pytest.raises(QuantizationError, match="has a prescribed scale"):
        quantized16(graph, [np.full((1, 2, 4, 4), 3, np.float32)])


class _Mixed(nn.Module):
    def forward(self, x):
        return torch.cat([x.sigmoid(), x], 1)


def test_int16x8_output_that_is_nearly_zero_is_refused() -> None:
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -1.0]]))
    graph = capture(module, [torch.zeros(1, 2)])
    with pytest.raises(QuantizationError, match=r"\(Linear\): the output's scale is too small"):
        quantized16(graph, [np.array([[1, 1 - 6e-8]], np.float32)])
