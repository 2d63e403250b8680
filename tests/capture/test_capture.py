"""From torch to the graph: names, folding, exported programs, and what is refused with which words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, Fn
from torch import nn

from edgecnn.capture.capture import capture, capture_program
from edgecnn.capture.trace import trace_module
from edgecnn.errors import CaptureError, ModelError
from edgecnn.golden.float import execute_float
from edgecnn.graph import ops
from edgecnn.graph.ops import Activation
from edgecnn.graph.verify import batch_is_free


def _capture_case(name: str):
    case = next(c for c in CASES if c.name == name)
    return capture(case.module(), case.inputs())


def _kinds(graph) -> list[str]:
    return [type(n.op).__name__ for n in graph.nodes]


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        ("conv bn relu", ["Conv2d"]),
        ("depthwise bn", ["Conv2d"]),
        ("conv relu6", ["Conv2d"]),
        ("conv hardtanh", ["Conv2d"]),
        ("hardtanh odd bounds", ["Conv2d", "Clamp"]),
        ("conv relu bn", ["Conv2d", "Mul", "Add"]),
        ("batch norm then relu", ["Mul", "Add"]),
        ("linear bn", ["Linear"]),
        ("flatten linear", ["Conv2d", "Linear"]),
        ("view -1 linear", ["Conv2d", "Linear"]),
        ("flatten dropout relu linear", ["Conv2d", "Linear"]),
        ("dropout", ["Conv2d"]),
        ("residual", ["Conv2d", "Conv2d", "Add"]),
        ("residual in place", ["Conv2d", "Conv2d", "Add"]),
        ("conv asymmetric padding by F.pad", ["Conv2d"]),
        ("adaptive avg divides", ["AvgPool2d"]),
        ("weight norm by hand", ["Conv2d"]),
        ("squeeze linear", ["AvgPool2d", "Linear"]),
        ("module used twice, weight shared", ["Conv2d", "Conv2d", "Conv2d", "Add"]),
        ("conv transpose bn relu", ["ConvTranspose2d"]),
        ("conv transpose in groups, bn relu", ["ConvTranspose2d"]),
        ("conv1d bn relu pool conv", ["Reshape", "Conv2d", "MaxPool2d", "Reshape"]),
        ("conv1d flatten linear", ["Reshape", "Conv2d", "Linear"]),
        ("conv1d mean linear", ["Reshape", "Conv2d", "Mean", "Linear"]),
        ("layout channel shuffle by hand", ["Gather"]),
        ("layout shuffle, depthwise, conv", ["Conv2d", "Conv2d", "Conv2d"]),
        ("layout shuffle between convs", ["Conv2d", "Conv2d"]),
        ("index channels then conv", ["Conv2d"]),
        ("pixel shuffle by hand", ["DepthToSpace"]),
        ("space to depth by hand", ["SpaceToDepth"]),
        ("pixel unshuffle 3, conv", ["SpaceToDepth", "Conv2d"]),
        ("by hand: x * relu6(x + 3) / 6", ["HardSwish"]),
        ("by hand: x * (relu6(x + 3) / 6)", ["HardSwish"]),
        ("by hand: relu6(x + 3) * x * (1 / 6)", ["HardSwish"]),
        ("by hand: x * clamp(x / 6 + 0.5, 0, 1)", ["HardSwish"]),
        ("by hand: x * hardsigmoid(x)", ["HardSwish"]),
        ("by hand: x * sigmoid(x)", ["Sigmoid", "Mul"]),
        ("by hand: x / (1 + exp(-x))", ["Sigmoid", "Mul"]),
        ("by hand: 1 / (1 + exp(-x))", ["Sigmoid"]),
        ("by hand: log(1 + exp(x))", ["Softplus"]),
        ("by hand: log1p(exp(x))", ["Softplus"]),
        ("by hand: x * tanh(log(1 + exp(x)))", ["Softplus", "Tanh", "Mul"]),
        ("by hand: 0.5 * x * (1 + erf)", ["Gelu"]),
        ("by hand: x * 0.5 * (erf + 1)", ["Gelu"]),
        ("by hand: 0.5 * x * (1 + tanh)", ["Gelu"]),
        ("by hand: 0.5 * x * (1 + tanh), x taken out", ["Gelu"]),
        ("lp pool 2", ["Mul", "AvgPool2d", "Mul", "Sqrt"]),
        ("min pool behind a convolution", ["Conv2d", "MaxPool2d", "Mul"]),
        ("arithmetic times 1, plus 0", ["Relu"]),
        ("shape expand", ["Mean", "Mul"]),
        ("resize {'scale_factor': 1.3}", ["GatherImage"]),
    ],
)
def test_simplified_to(case: str, kinds: list[str]) -> None:
    assert _kinds(_capture_case(case)) == kinds


def test_fused_activations() -> None:
    assert _capture_case("conv relu6").nodes[0].op.activation is Activation.RELU6
    assert _capture_case("residual").nodes[-1].op.activation is Activation.RELU


def test_names_lead_back_to_modules() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.MaxPool2d(2))
            self.fc = nn.Linear(18, 2)

        def forward(self, x):
            return F.softmax(torch.tanh(self.fc(self.features(x).flatten(1))), 1)

    graph = capture(Net(), [torch.zeros(1, 1, 8, 8)])
    assert [n.name for n in graph.nodes] == ["features.0", "features.1", "features.2", "fc", "tanh", "softmax"]
    assert list(graph.constants) == ["features.0.weight", "features.0.bias", "fc.weight", "fc.bias"]
    assert graph.nodes[4].origin.source.split(":")[0].endswith("test_capture.py")
    assert [i.name for i in graph.inputs] == ["x"]


def test_output_names() -> None:
    graph = _capture_case("flatten, two heads")
    assert [o.name for o in graph.outputs] == ["map", "scores_0", "scores_1"]
    assert [o.name for o in _capture_case("two outputs").outputs] == ["output_0", "output_1"]
    assert [o.name for o in _capture_case("relu").outputs] == ["output"]


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    module[2].eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    capture(module, [torch.zeros(1, 1, 8, 8)])
    assert [m.training for m in module] == [True, True, False]
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_folded_batch_norm_is_exact_to_float32() -> None:
    """Folding happens in float64, so it is no further from the truth than torch's own float32."""
    case = next(c for c in CASES if c.name == "conv bn")
    module, (x,) = case.module(), case.inputs(4)
    (value,) = execute_float(capture(module, case.inputs()), [x.numpy()]).keys() - {"input", "x"}
    ours = execute_float(capture(module, case.inputs()), [x.numpy()])[value]
    with torch.no_grad():
        exact, torchs = module.double()(x.double()).numpy(), module.float()(x).numpy()
    assert np.abs(ours - exact).max() <= 2 * np.abs(torchs - exact).max()


@pytest.mark.parametrize("batch", [1, 4])
def test_program_of_any_static_batch(batch: int) -> None:
    case = next(c for c in CASES if c.name == "view linear")
    module = case.module()
    program = trace_module(module, case.inputs(batch))
    graph = capture_program(program)
    assert graph.inputs[0].shape == (1, 3, 9, 8)
    assert batch_is_free(graph)
    x = case.inputs(5)[0]
    value = execute_float(graph, [x.numpy()])[graph.outputs[0].value]
    assert np.allclose(value, module(x).detach().numpy(), atol=1e-5)


def test_program_with_a_dynamic_batch() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(168, 2)

        def forward(self, x):
            return self.fc(self.conv(x).view(x.size(0), -1))

    module = Net().eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    graph = capture_program(torch.export.export(module, (torch.zeros(2, 3, 9, 8),), dynamic_shapes=dynamic))
    assert graph.inputs[0].shape == (1, 3, 9, 8)
    x = torch.randn(5, 3, 9, 8)
    value = execute_float(graph, [x.numpy()])[graph.outputs[0].value]
    assert np.allclose(value, module(x).detach().numpy(), atol=1e-5)


def test_program_with_dynamic_height_is_refused() -> None:
    program = torch.export.export(
        nn.Conv2d(3, 4, 3).eval(), (torch.zeros(1, 3, 9, 8),), dynamic_shapes=({2: torch.export.Dim("height", min=4)},)
    )
    with pytest.raises(CaptureError, match=r"axis 2 of .* has no fixed length"):
        capture_program(program)


class _Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bicubic")
        self.act = nn.Hardshrink()

    def forward(self, x):
        y = self.act(self.up(x))
        return torch.argmin(y, 1)


def test_unsupported_operators_are_listed_at_once() -> None:
    with pytest.raises(CaptureError) as found:
        capture(_Unsupported(), [torch.zeros(1, 1, 4, 4)])
    text = str(found.value)
    assert "3 operations" in text
    for part in ("up", "aten.upsample_bicubic2d", "act", "aten.hardshrink", "aten.argmin", "test_capture.py:", "try "):
        assert part in text


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Fn(lambda x: F.dropout(x, 0.5)), "dropout is active"),
        (nn.BatchNorm2d(1, track_running_stats=False), "statistics from the batch"),
        (Fn(lambda x: F.conv2d(x, x[:, :, :3, :3])), "computed from the input"),
        (Fn(lambda x: torch.div(x, 2, rounding_mode="floor")), "rounding_mode"),
        (Fn(lambda x: x.argmax(1).float()), "result of argmax"),
        (Fn(lambda x: x.argmax()), "argmax over all axes"),
        (Fn(lambda x: x.flip(0)), "samples of a batch"),
        (Fn(lambda x: F.softplus(x, threshold=2)), "threshold=2"),
        (Fn(lambda x: F.threshold(x, 0.5, 0.0)), "a threshold that jumps"),
        (Fn(lambda x: x**x), "computed exponent"),
        (Fn(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")), "bilinear resizing"),
        (Fn(lambda x: F.max_pool2d(x, 2, 2, 1, 5)), "lies wholly in padding"),
        (Fn(lambda x: x @ x[0, 0, 0]), "product with a vector"),
        (nn.LocalResponseNorm(3), "LocalResponseNorm"),
        (Fn(lambda x: x.double()), "gives float64"),
        (Fn(lambda x: nn.functional.max_pool2d(x.squeeze(0), 2)), "without a batch axis"),
        (nn.LSTM(4, 3), "recurrent"),
        (Fn(lambda x: F.max_pool2d(x, 2, return_indices=True)), "result 1"),
        (Fn(lambda x: x + torch.tensor(float("nan"))), "NaN or infinite"),
        (Fn(lambda x: (x, torch.ones(2))), "does not depend on the input"),
        (Fn(lambda x: None), "returns None|returns nothing"),
        (Fn(lambda x: x > 0), "aten.gt"),
        (Fn(lambda x: F.conv2d(x, torch.ones(1, 1, 2, 2), x.mean((1, 2, 3)))), "bias is computed"),
    ],
    ids=str,
)
def test_refused_with_the_reason(module: nn.Module, message: str) -> None:
    shape = (1, 4, 4) if isinstance(module, nn.LSTM) else (1, 1, 4, 4)
    with pytest.raises(CaptureError, match=message):
        capture(module, [torch.zeros(*shape)])


def test_nothing_is_said_of_what_follows_an_unsupported_operator() -> None:
    def shuffle(x):
        a, b = x.cumsum(1).chunk(2, 1)
        return torch.cat([b, a], 1) + F.hardshrink(x)

    with pytest.raises(CaptureError) as found:
        capture(Fn(shuffle), [torch.zeros(1, 4, 3, 3)])
    assert "2 operations" in str(found.value)
    assert "aten.cumsum" in str(found.value)
    assert "getitem" not in str(found.value)


def test_numbers_computed_from_a_dynamic_batch_are_refused() -> None:
    program = torch.export.export(
        Fn(lambda x: x.clamp(max=x.size(0) * 0.25)),
        (torch.ones(3, 4),),
        dynamic_shapes=(({0: torch.export.Dim("b")},),),
    )
    with pytest.raises(CaptureError, match="length of the batch"):
        capture_program(program)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Fn(lambda x: {"x": x * 2}), ["x"]),
        (Fn(lambda x: {"a": {"b": x * 2}, "a_b": x * 3}), ["a_b", "a_b_out"]),
        (Fn(lambda x: {"": x * 2}), ["output"]),
    ],
    ids=["like the input", "like each other", "empty"],
)
def test_output_names_are_their_own(module, names: list[str]) -> None:
    graph = capture(module, [torch.zeros(1, 3)])
    assert [o.name for o in graph.outputs] == names
    assert not {o.name for o in graph.outputs} & {i.name for i in graph.inputs}


def test_control_flow_over_values_is_refused_with_the_line() -> None:
    class Net(nn.Module):
        def forward(self, x):
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(CaptureError, match=r"torch\.export cannot trace Net") as found:
        capture(Net(), [torch.ones(1, 1, 4, 4)])
    assert "test_capture.py" in found.value.where
    assert len(found.value.message) < 500 < len(found.value.detail)


def test_a_model_that_does_not_run_says_so() -> None:
    with pytest.raises(ModelError, match="does not run on an input of 1x2x4x4") as found:
        capture(nn.Conv2d(3, 4, 3), [torch.zeros(1, 2, 4, 4)])
    assert "--input-shape" in found.value.hint


def test_inputs_that_are_no_floats_are_refused() -> None:
    with pytest.raises(CaptureError, match=r"the input \w+ is int64"):
        capture(Fn(lambda x: x * 2.0), [torch.zeros(1, 3, dtype=torch.int64)])


def test_state_that_is_written_is_refused() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1, 1))

        def forward(self, x):
            self.count += 1
            return x + self.count

    class Views(Counter):
        def forward(self, x):
            self.count.view(-1).add_(1)
            return x + self.count

    for module in (Counter(), Views()):
        with pytest.raises(CaptureError, match="writes to its own count"):
            capture(module, [torch.zeros(1, 4)])
        assert module.count == 0


def test_identity_graph_keeps_operations_count_linear() -> None:
    deep = nn.Sequential(*[nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU()) for _ in range(100)])
    graph = capture(deep, [torch.zeros(1, 2, 2, 2)])
    assert _kinds(graph) == ["Conv2d"] * 100
    assert isinstance(graph.nodes[0].op, ops.Conv2d)
