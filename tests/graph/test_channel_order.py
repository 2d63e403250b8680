"""Shuffled channels: what becomes of a shuffle in both formats, in float and as integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert.interpreter import Interpreter
from cases import CASES
from cases.base import captured
from support.exporters import EXPORTERS, LIMIT
from support.int8 import quantized_graph
from torch import Tensor, nn

from edgecnn.capture.capture import capture
from edgecnn.export.tflite.export import export_tflite, export_tflite_int8
from edgecnn.export.tflite.legalize import legalize
from edgecnn.golden.float import execute_float
from edgecnn.golden.integer import execute_integer
from edgecnn.graph.graph import Graph
from edgecnn.graph.propagate_channel_order import propagate_channel_order
from edgecnn.models import create_model
from edgecnn.parity.metrics import relative_error
from edgecnn.quantize.recipe import Override, Recipe


class Net(nn.Module):
    """Two convolutions of 12 channels to choose from, and layers to read what is chosen."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(3, 12, 3, padding=1)
        self.six, self.dense, self.whole = nn.Conv2d(6, 4, 1), nn.Conv2d(12, 4, 3), nn.Conv2d(24, 4, 1)
        self.deep = nn.Conv2d(12, 24, 3, padding=1, groups=12)
        self.grouped, self.up = nn.Conv2d(12, 12, 1, groups=3), nn.ConvTranspose2d(12, 4, 2, 2)
        self.linear, self.flat = nn.Linear(12, 5), nn.Linear(12 * 64, 5)
        self.prelu, self.scale = nn.PReLU(12, 0.3), nn.Parameter(torch.rand(12, 1, 1) + 0.5)
        with torch.no_grad():
            self.prelu.weight.copy_(torch.rand(12))
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def shuffle(x: Tensor, groups: int = 3) -> Tensor:
    return F.channel_shuffle(x, groups)


def two(m: Net, x: Tensor) -> Tensor:
    """A value of 12 channels that comes from no one convolution, so that its order cannot go into weights before it."""
    return m.a(x) + F.hardtanh(m.b(x)).abs()


ABSORBED: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "dense": lambda m, x: m.dense(shuffle(two(m, x))),
    "two readers": lambda m, x: m.dense(y := shuffle(two(m, x))) + m.dense(y.relu()),
    "relu, pool, pad": lambda m, x: m.dense(F.pad(F.max_pool2d(shuffle(two(m, x)).relu(), 2), (1, 1))),
    "average, resize, flip": lambda m, x: m.dense(F.interpolate(F.avg_pool2d(shuffle(two(m, x)), 2), scale_factor=2)),
    "depthwise multiplied": lambda m, x: m.whole(m.deep(shuffle(two(m, x)))),
    "prelu, scale": lambda m, x: m.dense(m.prelu(shuffle(two(m, x))) * m.scale + 0.25),
    "gated by itself": lambda m, x: m.dense((y := shuffle(two(m, x))) * torch.sigmoid(y)),
    "mean, linear": lambda m, x: m.linear(shuffle(two(m, x)).mean((2, 3))),
    "flatten, linear": lambda m, x: m.flat(shuffle(two(m, x)).flatten(1)),
    "transposed": lambda m, x: m.up(shuffle(two(m, x))),
    "beside another": lambda m, x: m.whole(torch.cat([m.a(x).sigmoid(), shuffle(two(m, x))], 1)),
    "twice": lambda m, x: m.dense(shuffle(shuffle(two(m, x)), 2).relu()),
    "and back": lambda m, x: shuffle(shuffle(two(m, x)).abs(), 4) * 2,
    "rows beside rows": lambda m, x: m.dense(torch.cat([y := shuffle(two(m, x)), y.relu()], 2)),
}
CHOSEN: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "half": lambda m, x: m.six(shuffle(two(m, x), 2)[:, 6:]),
    "half, relu": lambda m, x: m.six(shuffle(two(m, x), 2)[:, :6].relu()),
    "half of a concatenation": lambda m, x: m.dense(shuffle(torch.cat([m.a(x), two(m, x)], 1), 2).chunk(2, 1)[1]),
    "chunks, one goes on": lambda m, x: m.dense(
        torch.cat([(c := shuffle(two(m, x), 2).chunk(2, 1))[0], c[1].relu()], 1)
    ),
    "both orders": lambda m, x: m.six(y := shuffle(two(m, x), 2)[:, 6:]) + y[:, :4] * 2,
    "groups": lambda m, x: m.grouped(shuffle(two(m, x))),
    "rolled": lambda m, x: two(m, x).roll(5, 1) * 2,
}
KEPT: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "an output": lambda m, x: shuffle(two(m, x)),
    "added to what is not": lambda m, x: m.dense(shuffle(two(m, x)) + m.a(x)),
    "softmax over channels": lambda m, x: shuffle(two(m, x)).softmax(1),
    "channels twice": lambda m, x: m.whole(two(m, x)[:, [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11] * 2]),
}


def net_of(forward: Callable[[Net, Tensor], Tensor]) -> tuple[Net, Graph]:
    net = Net(forward).eval()
    return net, capture(net, [torch.zeros(1, 3, 8, 8)])


@pytest.mark.parametrize(
    ("forms", "gathers", "cut_in_two"),
    [(ABSORBED, 0, False), (CHOSEN, None, False), (KEPT, 1, True)],
    ids=["absorbed", "chosen", "kept"],
)
def test_shuffles(forms, gathers: int | None, cut_in_two: bool, infer) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for name, form in forms.items():
        net, graph = net_of(form)
        kinds = Counter(type(n.op).__name__ for n in graph.nodes)
        assert gathers is None or kinds["Gather"] == gathers, name
        with torch.no_grad():
            expected = net(x).numpy()
        assert relative_error(execute_float(graph, [x.numpy()])[graph.outputs[0].value], expected) <= LIMIT, name
        for format_, export in EXPORTERS.items():
            written = export(graph, version="0")
            (found,) = infer(format_, graph, written, [x.numpy()])
            assert relative_error(found, expected) <= LIMIT, f"{name} in {format_}"
            if format_ == "tflite":
                assert ("GATHER" in written.operators) == cut_in_two, name
                assert "TRANSPOSE" not in written.operators, name


def test_what_cannot_be_carried_stays_where_it_was() -> None:
    _, graph = net_of(KEPT["added to what is not"])
    assert [type(n.op).__name__ for n in graph.nodes].index("Gather") < len(graph.nodes) - 2
    for form in (*ABSORBED.values(), *CHOSEN.values(), *KEPT.values()):
        _, graph = net_of(form)
        again = propagate_channel_order(graph)
        assert [(n.name, n.op) for n in again.nodes] == [(n.name, n.op) for n in graph.nodes]
        assert all(np.array_equal(a, again.constants[name]) for name, a in graph.constants.items())


def test_a_shared_weight_is_turned_for_one_reader_alone() -> None:
    """``dense`` reads a shuffled value here and one that is not there."""
    net, graph = net_of(lambda m, x: m.dense(shuffle(two(m, x))) + m.dense(m.a(x)))
    assert sum(a.shape == (4, 12, 3, 3) for a in graph.constants.values()) == 2
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = net(x).numpy()
    assert relative_error(execute_float(graph, [x.numpy()])[graph.outputs[0].value], expected) <= LIMIT


def test_xnnpack_takes_all_of_shufflenet() -> None:
    model = create_model("shufflenet_v2", image_size=32)
    written = export_tflite(capture(model, [torch.zeros(1, 3, 32, 32)]), version="0")
    assert {"GATHER", "TRANSPOSE", "RESHAPE"}.isdisjoint(written.operators)
    interpreter = Interpreter(model_content=written.data, num_threads=1)
    interpreter.allocate_tensors()
    parts = [o for o in interpreter._get_ops_details() if o["op_name"] == "DELEGATE"]
    assert len(parts) == 1


def test_long_concatenations_are_made_in_steps_the_narrowest_parts_first(infer) -> None:
    layers = nn.ModuleList(nn.Conv2d(2, n, 1) for n in (8, 1, 2, 8, 8, 8, 8, 8, 8, 8, 8, 8))

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([layer(x) for layer in self.layers], 1)

    x = torch.randn(2, 2, 4, 4)
    graph = capture(Wide(), [x[:1]])
    legal = legalize(graph)
    joins = [n for n in legal.nodes if type(n.op).__name__ == "Concat"]
    assert [len(n.inputs) for n in joins] == [5, 4, 5]
    assert joins[0].shape[1] == 27
    (found,) = infer("tflite", graph, export_tflite(graph, version="0"), [x.numpy()])
    assert relative_error(found, Wide()(x).detach().numpy()) <= LIMIT


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("net shuffle stage of two", None),
        ("net shuffled groups", None),
        ("net shuffle stage of two", Recipe(name="m", overrides=(Override(layers="cat*", precision="float"),))),
        ("net shuffle stage of two", Recipe(name="m", overrides=(Override(layers="branches.0*", precision="float"),))),
    ],
    ids=["halves", "groups", "float concatenations", "a float branch"],
)
def test_int8_files_hold_the_program(name: str, recipe: Recipe | None, agent) -> None:
    """The whole file against the integer reference; pooling and additions are within a step, as on their own."""
    case = next(c for c in CASES if c.name == name)
    inputs = [np.asarray(x) for x in case.inputs(4)]
    q = quantized_graph(captured(case), inputs, **({} if recipe is None else {"recipe": recipe}))
    assert recipe is None or q.skipped
    _same_integers(q, inputs, agent, 1 if name == "net shuffled groups" or recipe else 0)


def test_parts_with_parameters_of_their_own_are_not_joined_past_each_other(agent) -> None:
    """A sigmoid's parameters are prescribed: a slice of the concatenation is not a slice of what was concatenated."""
    _, graph = net_of(lambda m, x: m.dense(shuffle(torch.cat([m.a(x).sigmoid(), 9 * m.b(x)], 1), 2)[:, 6:18]))
    inputs = [np.random.default_rng(0).standard_normal((8, 3, 8, 8), dtype=np.float32)]
    q = quantized_graph(graph, inputs)
    (joined,) = [n for n in q.graph.nodes if type(n.op).__name__ == "Concat"]
    assert len({(q.activations[x].scale, q.activations[x].zero_point) for x in joined.inputs}) == 2
    _same_integers(q, inputs, agent, 1)


def _same_integers(q, inputs: Sequence[np.ndarray], agent, steps: int) -> None:
    written = export_tflite_int8(q, version="0", io="float32")
    (value,) = (o.value for o in q.graph.outputs)
    expected = execute_integer(
        q, [q.activations[i.name].quantize(x) for i, x in zip(q.graph.inputs, inputs, strict=True)]
    )
    with agent.open("litert", written.data, "int8.tflite") as session:
        (found,) = session.infer([np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for x in inputs])
    real = q.activations[value].dequantize(expected[value])
    assert np.abs(found.transpose(0, 3, 1, 2) - real).max() <= (steps + 0.01) * q.activations[value].scale
