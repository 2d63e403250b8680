"""What a TFLite file holds: operators, versions, layouts, alignment, signature."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from cases import CASES
from cases.base import captured
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.export.tflite.export import export_tflite
from edgecnn.export.tflite.legalize import legalize, padding_scheme
from edgecnn.golden.float import execute_float
from edgecnn.graph.shapes import Padding, window_count
from edgecnn.models import create_model


def _written(name: str):
    case = next(c for c in CASES if c.name == name)
    return export_tflite(captured(case), version="1.2.3")


def _model(data: bytes):
    return schema.ModelT.InitFromPackedBuf(data, 0)


@cache
def _zoo(name: str):
    model = create_model(name)
    return export_tflite(capture(model, [torch.zeros(1, *model.input_shape)]), version="0.1.0")


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("conv_pool", {"CONV_2D": 2, "FULLY_CONNECTED": 1, "MAX_POOL_2D": 2}),
        ("lenet5", {"CONV_2D": 2, "FULLY_CONNECTED": 3, "MAX_POOL_2D": 2}),
        ("resnet8", {"ADD": 3, "AVERAGE_POOL_2D": 1, "CONV_2D": 9, "FULLY_CONNECTED": 1, "PAD": 2}),
    ],
)
def test_operators_of_the_zoo(name: str, operators: dict[str, int]) -> None:
    """No TRANSPOSE, no RESHAPE in front of a linear layer, and PAD only where SAME is not torch's padding."""
    written = _zoo(name)
    assert written.operators == operators
    assert written.notes == ()


@pytest.mark.parametrize(
    ("name", "limit"), [("lenet5", 249_224), ("conv_pool", 202_632), ("resnet8", 315_400)], ids=str
)
def test_size_at_most_the_smallest_of_other_tools(name: str, limit: int) -> None:
    assert len(_zoo(name).data) <= limit


def test_signature_description_and_batch() -> None:
    model = _model(_written("flatten, two heads").data)
    (signature,) = model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [m.name for m in signature.outputs] == [b"map", b"scores_0", b"scores_1"]
    assert model.description == b"edgecnn 1.2.3"
    tensors = model.subgraphs[0].tensors
    assert list(tensors[model.subgraphs[0].inputs[0]].shapeSignature) == [-1, 9, 8, 3]
    assert [list(tensors[o].shapeSignature) for o in model.subgraphs[0].outputs] == [[-1, 7, 6, 2], [-1, 5], [-1, 4]]


def test_a_batch_that_is_fixed_is_not_said_to_be_free() -> None:
    model = _model(_written("reshape mixing the batch").data)
    assert all(t.shapeSignature is None for t in model.subgraphs[0].tensors)


@pytest.mark.parametrize("name", ["residual", "conv groups 2", "flatten, two heads", "depthwise dilated"])
def test_buffers_are_aligned(name: str) -> None:
    data = _written(name).data
    model = schema.Model.GetRootAs(data, 0)
    found = 0
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % 16 == 0
            found += 1
    assert found


def test_equal_weights_are_stored_once() -> None:
    written = _written("module used twice, weight shared")
    model = _model(written.data)
    sizes = [len(b.data) for b in model.buffers if b.data is not None]
    assert sizes.count(3 * 3 * 3 * 3 * 4) == 2  # as it is, and scaled by the batch norm that follows its second use


def test_operator_versions() -> None:
    codes = {
        (c.builtinCode, c.version)
        for name in ("depthwise", "depthwise dilated", "linear on vectors", "linear on the last axis, no bias, relu")
        for c in _model(_written(name).data).operatorCodes
    }
    depthwise, linear = schema.BuiltinOperator.DEPTHWISE_CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED
    assert {c for c in codes if c[0] in (depthwise, linear)} == {(depthwise, 1), (depthwise, 2), (linear, 1)}


def test_channels_last_models_keep_their_input_layout() -> None:
    written = _written("permute from channels last")
    assert written.axes["input" if "input" in written.axes else next(iter(written.axes))] == (0, 1, 2, 3)
    assert _written("permute to channels last").axes["output"] == (0, 1, 2, 3)
    assert _written("relu").axes["output"] == (0, 2, 3, 1)


@pytest.mark.parametrize("case", [c for c in CASES if "pool" in c.name or "conv" in c.name], ids=lambda c: c.name)
def test_legalization_keeps_the_meaning(case) -> None:
    graph = captured(case)
    legal = legalize(graph)
    arrays = [x.numpy() for x in case.inputs(1)]
    before, after = execute_float(graph, arrays), execute_float(legal, arrays)
    for old, new in zip(graph.outputs, legal.outputs, strict=True):
        assert np.allclose(before[old.value], after[new.value], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("before", "padding"),
    [
        (nn.ReLU(), "PAD"),
        (nn.ReLU6(), "PAD"),
        (nn.Sigmoid(), "PAD"),
        (nn.Hardtanh(0.5, 2.0), "PAD"),
        (nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)), "PAD"),
        (nn.Identity(), "PADV2"),
        (nn.Hardtanh(), "PADV2"),
        (nn.Tanh(), "PADV2"),
    ],
    ids=str,
)
def test_maxima_of_what_is_never_negative_are_padded_with_0(before: nn.Module, padding: str) -> None:
    """XNNPACK takes a PAD, and leaves a PADV2 to TFLite."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), before, nn.MaxPool2d(3, 2, padding=1))
    x = torch.randn(1, 1, 16, 16)
    graph = capture(net, [x])
    operators = export_tflite(graph, version="0").operators
    assert [name for name in operators if name.startswith("PAD")] == [padding]
    legal, want = legalize(graph), net(x).detach().numpy()
    assert np.allclose(execute_float(legal, [x.numpy()])[legal.outputs[0].value], want, atol=1e-6)


def _windows(size: int, kernel: int, stride: int, before: int, count: int) -> list[tuple[int, int]]:
    """First and last cell of the image that each window sees."""
    return [(max(i * stride - before, 0), min(i * stride - before + kernel, size) - 1) for i in range(count)]


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 20),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_padding_scheme_means_the_same_windows(size, kernel, stride, before, after) -> None:
    """TFLite's own formulas (padding.h), computed here again, give the windows of torch where a scheme is chosen."""
    count = window_count(size, kernel, stride, 1, (before, after))
    if count < 1:
        return
    padding = Padding(before, after, before, after)
    scheme = padding_scheme((size, size), (count, count), (kernel, kernel), (stride, stride), (1, 1), padding)
    if scheme is None:
        return
    if scheme == "SAME":
        theirs = -(-size // stride)
        offset = max((theirs - 1) * stride + kernel - size, 0) // 2
    else:
        theirs, offset = -(-(size - kernel + 1) // stride), 0
    assert theirs == count
    assert _windows(size, kernel, stride, before, count) == _windows(size, kernel, stride, offset, theirs)
