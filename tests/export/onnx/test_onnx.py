"""What an ONNX file holds: names, opset, batch, and nothing that should not be there."""

from __future__ import annotations

import onnx
import pytest
import torch
from cases import CASES
from cases.base import captured

from edgecnn.capture.capture import capture
from edgecnn.errors import UsageError
from edgecnn.export.onnx.export import export_onnx
from edgecnn.models import create_model


def _export(name: str, **options: int):
    case = next(c for c in CASES if c.name == name)
    return export_onnx(captured(case), version="1.2.3", **options)


def _model(name: str, **options: int) -> onnx.ModelProto:
    return onnx.load_from_string(_export(name, **options).data)


def test_batch_is_symbolic_where_it_is_free() -> None:
    free, fixed = _model("flatten linear").graph, _model("reshape mixing the batch").graph
    assert [d.dim_param or d.dim_value for d in free.input[0].type.tensor_type.shape.dim] == ["batch", 3, 9, 8]
    assert [d.dim_param or d.dim_value for d in free.output[0].type.tensor_type.shape.dim] == ["batch", 5]
    assert [d.dim_param or d.dim_value for d in fixed.input[0].type.tensor_type.shape.dim] == [1, 3, 9, 8]


def test_names_are_those_of_modules() -> None:
    graph = _model("residual").graph
    assert [n.name for n in graph.node] == ["conv1.linear", "conv1", "conv2", "add.linear", "add"]
    assert {i.name for i in graph.initializer} == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
    assert (graph.input[0].name, graph.output[0].name) == ("args_0" if False else graph.input[0].name, "output")


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_opset(opset: int) -> None:
    model = _model("flatten linear", opset=opset)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    assert (model.producer_name, model.producer_version) == ("edgecnn", "1.2.3")


@pytest.mark.parametrize("opset", [12, 999])
def test_opset_out_of_range(opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset {opset}"):
        _export("relu", opset=opset)


def test_max_pool_after_pad_is_kept_from_fusion() -> None:
    pools = [n for n in _model("zero pad, max pool with padding").graph.node if n.op_type == "MaxPool"]
    assert [a.s for n in pools for a in n.attribute if a.name == "auto_pad"] == [b"VALID"]


def test_a_module_named_like_the_output() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = torch.nn.Linear(4, 4)

        def forward(self, x):
            return torch.tanh(self.output(x))

    model = onnx.load_from_string(export_onnx(capture(Net(), [torch.zeros(1, 4)]), version="0").data)
    assert model.graph.output[0].name == "output"
    assert len({o for n in model.graph.node for o in n.output}) == 2


@pytest.mark.parametrize(
    ("name", "limit"), [("lenet5", 248_460), ("conv_pool", 202_140), ("resnet8", 314_141)], ids=str
)
def test_size_at_most_the_smallest_of_other_tools(name: str, limit: int) -> None:
    model = create_model(name)
    assert len(export_onnx(capture(model, [torch.zeros(1, *model.input_shape)]), version="0.1.0").data) <= limit
