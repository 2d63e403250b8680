"""fp16, int8-dynamic and int16x8: what their files compute, how large they are, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from cases import CASES, CORE, Case
from cases.base import captured
from support.exporters import LIMIT
from support.paths import ROOT
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.errors import LoweringError, QuantizationError, UsageError
from edgecnn.export.formats import FORMATS, OFFERED, REFUSED, check_offered
from edgecnn.export.onnx.export import export_onnx
from edgecnn.export.onnx.fp16 import export_onnx_fp16
from edgecnn.export.tflite.dynamic import export_tflite_int8_dynamic
from edgecnn.export.tflite.export import export_tflite
from edgecnn.export.tflite.fp16 import export_tflite_fp16
from edgecnn.export.tflite.int16 import export_tflite_int16x8
from edgecnn.export.written import Written
from edgecnn.golden.float import execute_float
from edgecnn.golden.integer16 import execute_int16, rescale15, rescale31
from edgecnn.graph.graph import Graph, Input, Node, Output
from edgecnn.graph.ops import Add, Conv2d, Linear, Sub
from edgecnn.graph.verify import batch_is_free
from edgecnn.models import create_model
from edgecnn.parity.metrics import relative_error
from edgecnn.program.half_weights import half_weights, weighted_nodes
from edgecnn.program.integer_weights import quantize_weights
from edgecnn.program.quantized16 import QuantizedGraph16
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize16 import quantize_int16
from edgecnn.targets.hosts.local import LocalHost

ZOO = ("conv_pool", "lenet5", "resnet8")
FP32 = {"onnx": export_onnx, "tflite": export_tflite}
FP16 = {"onnx": export_onnx_fp16, "tflite": export_tflite_fp16}
REFERENCE = {"xnnpack": False, "reference_kernels": True}
_BESIDE = ROOT / ".venv-tflite-runtime" / "bin" / "python"
OLD_PYTHON = os.environ.get("EDGECNN_TFLITE_RUNTIME_PYTHON", str(_BESIDE) if _BESIDE.exists() else "")
"""An interpreter with tflite-runtime 2.14, which wants numpy < 2 and so a virtual environment of its own."""


@cache
def _zoo(name: str) -> tuple[Graph, np.ndarray]:
    torch.manual_seed(0)
    model = create_model(name).eval()
    x = torch.rand(24, *model.input_shape)
    return prepare(capture(model, [x[:1]])), x.numpy()


def _infer(
    agent: Any, graph: Graph, written: Written, arrays: Any, runtime: str = "litert", **options: Any
) -> list[Any]:
    with agent.open(runtime, written.data, "case.tflite", **options) as session:
        stored = [
            np.ascontiguousarray(x.transpose(written.axes[i.name])) for x, i in zip(arrays, graph.inputs, strict=True)
        ]
        outputs = session.infer(stored)
    return [o.transpose(np.argsort(written.axes[n.name])) for o, n in zip(outputs, graph.outputs, strict=True)]


def _codes(data: bytes) -> set[tuple[int, int]]:
    return {(c.builtinCode, c.version) for c in schema.ModelT.InitFromPackedBuf(data, 0).operatorCodes}


def _code(name: str) -> int:
    return int(getattr(schema.BuiltinOperator, name))


# fp16

WEIGHTED = [
    c for c in CORE if any(w in c.name for w in ("conv", "depthwise", "linear", "residual", "shared", "excite"))
] + [c for c in CASES if c.name in ("conv transpose bn relu", "net encoder-decoder, transposed", "net convnext block")]


@pytest.mark.parametrize("case", WEIGHTED, ids=lambda c: c.name)
def test_fp16_computes_the_graph_with_rounded_weights(case: Case, infer) -> None:
    graph = captured(case)
    rounded = half_weights(graph)
    arrays = [x.numpy() for x in case.inputs(3)]
    values = execute_float(rounded, arrays)
    for form, export in FP16.items():
        for output, got in zip(graph.outputs, infer(form, graph, export(graph, version="0"), arrays), strict=True):
            assert relative_error(got, values[output.value]) <= LIMIT, form


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("form", FORMATS)
def test_fp16_files_are_about_half_the_size(name: str, form: str) -> None:
    graph, _ = _zoo(name)
    written = FP16[form](graph, version="0")
    assert len(written.data) <= 0.52 * len(FP32[form](graph, version="0").data)
    assert written.notes == ()
    cast = {"onnx": "Cast", "tflite": "DEQUANTIZE"}[form]
    assert written.operators[cast] == len(weighted_nodes(graph))


@pytest.mark.parametrize("form", FORMATS)
def test_fp16_refuses_weights_beyond_its_range_by_the_layer(form: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with torch.no_grad():
        module[0].weight[1, 0, 0, 0] = 70_000.0
    graph = capture(module, [torch.zeros(1, 1, 5, 5)])
    with pytest.raises(QuantizationError, match=r"^0 \(Conv2d\): the weights of channel 1 do not fit float16"):
        FP16[form](graph, version="0")


@pytest.mark.parametrize("form", FORMATS)
def test_fp16_says_where_it_is_coarse(form: str) -> None:
    module = nn.Linear(4, 3)
    with torch.no_grad():
        module.weight[1] *= 1e-6
    (note,) = FP16[form](capture(module, [torch.zeros(1, 4)]), version="0").notes
    assert "the weights of 1 channels lie below 6.1e-05" in note


@pytest.mark.parametrize("opset", [13, 21])
def test_fp16_opsets(opset: int, infer) -> None:
    case = next(c for c in CASES if c.name == "linear on the last axis")
    graph, arrays = captured(case), [x.numpy() for x in case.inputs(2)]
    (got,) = infer("onnx", graph, export_onnx_fp16(graph, version="0", opset=opset), arrays)
    assert relative_error(got, execute_float(half_weights(graph), arrays)[graph.outputs[0].value]) <= LIMIT
    with pytest.raises(UsageError, match="opset 12"):
        export_onnx_fp16(graph, version="0", opset=12)


# int8-dynamic


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
    (got,) = _infer(agent, graph, written, arrays, **(REFERENCE if kernels == "reference" else {}))
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
    (got,) = _infer(agent, graph, written, arrays, **options)
    assert relative_error(got, execute_float(_int8_weights(graph), arrays)[graph.outputs[0].value]) <= LIMIT
    assert written.operators["DEQUANTIZE"] == 1
    assert any("depthwise" in n for n in written.notes)


@pytest.mark.parametrize("name", ZOO)
def test_dynamic_zoo(name: str, agent) -> None:
    graph, x = _zoo(name)
    written = export_tflite_int8_dynamic(graph, version="0")
    assert len(written.data) <= 0.29 * len(export_tflite(graph, version="0").data)
    assert "DEQUANTIZE" not in written.operators
    (got,) = _infer(agent, graph, written, [x])
    assert relative_error(got, execute_float(graph, [x])[graph.outputs[0].value]) <= 0.03


def test_dynamic_versions_and_notes() -> None:
    case = next(c for c in CASES if c.name == "flatten linear")
    written = export_tflite_int8_dynamic(captured(case), version="0")
    assert {(_code("CONV_2D"), 5), (_code("FULLY_CONNECTED"), 12)} <= _codes(written.data)
    assert any("tflite-runtime 2.14" in n for n in written.notes)
    whole = export_tflite_int8_dynamic(captured(case), version="0", per_channel_linear=False)
    assert (_code("FULLY_CONNECTED"), 9) in _codes(whole.data)
    assert whole.notes == ()


# int16x8


def _quantized16(graph: Graph, arrays: list[np.ndarray]) -> QuantizedGraph16:
    rows = [arrays] if batch_is_free(graph) else [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    return quantize_int16(graph, observe(graph, rows))


def _integers16(q: QuantizedGraph16, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [q.activations[i.name].quantize(x) for i, x in zip(q.graph.inputs, arrays, strict=True)]


def _alone(q: QuantizedGraph16, node: Node) -> QuantizedGraph16:
    constants = {i: q.graph.constants[i] for i in node.inputs if i in q.graph.constants}
    graph = Graph(
        inputs=tuple(Input(i, q.graph.shapes[i]) for i in dict.fromkeys(node.inputs) if i not in constants),
        nodes=(node,),
        outputs=(Output("output", node.name),),
        constants=MappingProxyType(constants),
    )
    return replace(q, graph=graph)


def _run16(agent: Any, q: QuantizedGraph16, integers: list[np.ndarray], **options: Any) -> list[np.ndarray]:
    reals = [q.activations[i.name].dequantize(x) for i, x in zip(q.graph.inputs, integers, strict=True)]
    outputs = _infer(agent, q.graph, export_tflite_int16x8(q, version="0"), reals, **options)
    return [
        np.rint(y.astype(np.float64) / float(q.activations[o.value].scale)).astype(np.int64)
        for y, o in zip(outputs, q.graph.outputs, strict=True)
    ]


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
    q = _quantized16(graph, arrays)
    golden = execute_int16(q, _integers16(q, arrays))
    for node in q.graph.nodes:
        one = _alone(q, node)
        (got,) = _run16(agent, one, [golden[i.name] for i in one.graph.inputs], **REFERENCE)
        off = np.abs(got - golden[node.name]).max(initial=0)
        assert off <= (0 if isinstance(node.op, EXACT) else CORRECTED), node.describe()


@pytest.mark.parametrize("name", NO_INT16)
def test_int16x8_refuses_by_name(name: str) -> None:
    case = next(c for c in CASES if c.name == name)
    graph = prepare(captured(case))
    with pytest.raises((QuantizationError, LoweringError), match=NO_INT16[name]):
        export_tflite_int16x8(_quantized16(graph, [x.numpy() for x in case.inputs(2)]), version="0")


@pytest.mark.parametrize("options", [{}, REFERENCE], ids=["xnnpack", "reference"])
@pytest.mark.parametrize("name", ZOO)
def test_int16x8_zoo(name: str, options: dict, agent) -> None:
    """Whole networks: what is exact alone is exact in a row; resnet8's global average may differ by 1, and spreads."""
    graph, x = _zoo(name)
    q = _quantized16(graph, [x])
    output = graph.outputs[0].value
    golden, expected = execute_int16(q, _integers16(q, [x]))[output], execute_float(graph, [x])[output]
    (got,) = _run16(agent, q, _integers16(q, [x]), **options)
    assert np.abs(got - golden).max() <= (4 if name == "resnet8" else 0)
    assert relative_error(got * q.activations[output].scale, expected) < 0.03


def test_int16x8_versions_types_and_scales() -> None:
    case = next(c for c in CASES if c.name == "depthwise separable")
    graph = prepare(captured(case))
    written = export_tflite_int16x8(_quantized16(graph, [x.numpy() for x in case.inputs(2)]), version="0")
    assert _codes(written.data) == {
        (_code(n), v) for n, v in {"QUANTIZE": 2, "DEPTHWISE_CONV_2D": 5, "CONV_2D": 4, "DEQUANTIZE": 3}.items()
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
        _quantized16(graph, [np.full((1, 2, 4, 4), 3, np.float32)])


class _Mixed(nn.Module):
    def forward(self, x):
        return torch.cat([x.sigmoid(), x], 1)


def test_int16x8_output_that_is_nearly_zero_is_refused() -> None:
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -1.0]]))
    graph = capture(module, [torch.zeros(1, 2)])
    with pytest.raises(QuantizationError, match=r"\(Linear\): the output's scale is too small"):
        _quantized16(graph, [np.array([[1, 1 - 6e-8]], np.float32)])


def test_rescaling_against_unbounded_integers() -> None:
    rng = np.random.default_rng(0)
    acc = rng.integers(-(1 << 45), 1 << 45, 2000)
    real = np.exp2(rng.uniform(-40, 6.9, 2000))
    for rescale, bits in ((rescale15, 15), (rescale31, 31)):
        for a, r, got in zip(acc.tolist(), real.tolist(), rescale(acc, real).tolist(), strict=True):
            fraction, exponent = np.frexp(r)
            whole = round(float(fraction) * (1 << 31)) if exponent >= -31 else 0
            kept = min((whole + (1 << 15)) >> 16, 0x7FFF) if bits == 15 else whole
            shift = bits - int(exponent)
            assert got == (a * kept + (1 << (shift - 1))) >> shift or whole == got == 0


# Formats


def test_every_precision_is_offered_or_refused_with_a_reason() -> None:
    assert tuple(OFFERED) == FORMATS
    for form in FORMATS:
        for precision in {p for offered in OFFERED.values() for p in offered}:
            assert (precision in OFFERED[form]) != ((form, precision) in REFUSED)
    check_offered("tflite", "int16x8")
    with pytest.raises(UsageError, match="int8-dynamic is not written as onnx") as caught:
        check_offered("onnx", "int8-dynamic")
    assert caught.value.why
    assert caught.value.hint


# tflite-runtime 2.14


@pytest.fixture(scope="module")
def old() -> Iterator[Any]:
    if not OLD_PYTHON:
        pytest.skip("EDGECNN_TFLITE_RUNTIME_PYTHON names no interpreter with tflite-runtime")
    with LocalHost(python=OLD_PYTHON).start() as connection:
        yield connection


@pytest.mark.parametrize("name", ZOO)
def test_tflite_runtime(name: str, old) -> None:
    graph, x = _zoo(name)
    output = graph.outputs[0].value
    (got,) = _infer(old, graph, export_tflite_fp16(graph, version="0"), [x], "tflite-runtime")
    assert relative_error(got, execute_float(half_weights(graph), [x])[output]) <= LIMIT
    written = export_tflite_int8_dynamic(graph, version="0", per_channel_linear=False)
    (got,) = _infer(old, graph, written, [x], "tflite-runtime")
    assert relative_error(got, execute_float(graph, [x])[output]) <= 0.03
    q = _quantized16(graph, [x])
    golden = execute_int16(q, _integers16(q, [x]), linear="rescale15")[output]
    (got,) = _run16(old, q, _integers16(q, [x]), runtime="tflite-runtime")
    assert np.abs(got - golden).max() <= (4 if name == "resnet8" else 0)


@pytest.mark.parametrize("options", [{}, REFERENCE], ids=["optimized", "reference"])
@pytest.mark.parametrize("name", ["linear on the last axis", "linear on the last axis, no bias, relu"])
def test_tflite_runtime_linear_on_more_axes(name: str, options: dict, old) -> None:
    """Rows and a RESHAPE: with keep_num_dims its int16 kernels, and the reference ones of all types, go wrong."""
    case = next(c for c in CASES if c.name == name)
    graph, x = prepare(captured(case)), [a.numpy() for a in case.inputs(4)]
    output = graph.outputs[0].value
    expected = execute_float(graph, x)[output]
    (got,) = _infer(old, graph, export_tflite(graph, version="0"), x, "tflite-runtime", **options)
    assert relative_error(got, expected) <= LIMIT
    written = export_tflite_int8_dynamic(graph, version="0", per_channel_linear=False)
    (got,) = _infer(old, graph, written, x, "tflite-runtime", **options)
    assert relative_error(got, expected) <= 0.03
    q = _quantized16(graph, x)
    (got,) = _run16(old, q, _integers16(q, x), runtime="tflite-runtime", **options)
    np.testing.assert_array_equal(got, execute_int16(q, _integers16(q, x), linear="rescale15")[output])
