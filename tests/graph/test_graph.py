"""Operators refuse what has no meaning; the verifier finds what is broken; analysis counts right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgecnn.capture.capture import capture
from edgecnn.errors import GraphError
from edgecnn.graph import ops
from edgecnn.graph.analysis import analyse
from edgecnn.graph.graph import Graph, GraphBuilder, Output
from edgecnn.graph.ops import Padding
from edgecnn.graph.rewrite import apply_rules
from edgecnn.graph.verify import batch_is_free, verify
from edgecnn.models import create_model


def _conv(**changes: object) -> ops.Conv2d:
    return ops.Conv2d(**{"x": "x", "weight": "w", "bias": None, **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _conv(stride=(0, 1)), "stride"),
        (lambda: _conv(padding=Padding(-1)), "negative"),
        (lambda: _conv().shape((1, 3, 8, 8), (4, 2, 3, 3)), "does not fit"),
        (lambda: _conv(groups=2).shape((1, 4, 8, 8), (3, 2, 3, 3)), "does not fit"),
        (lambda: _conv().shape((1, 3, 2, 2), (4, 3, 3, 3)), "does not fit into an image of 2x2"),
        (lambda: _conv().shape((3, 8, 8), (4, 3, 3, 3)), "rank 4"),
        (lambda: _conv(bias="b").shape((1, 3, 8, 8), (4, 3, 3, 3), (3,)), "bias"),
        (lambda: ops.Linear(x="x", weight="w", bias=None).shape((1, 5), (2, 4)), "features"),
        (lambda: ops.MaxPool2d(x="x", kernel=(0, 1), stride=(1, 1)), "kernel"),
        (
            lambda: ops.MaxPool2d(x="x", kernel=(2, 1), stride=(1, 1), padding=Padding(2, 0, 0, 0)).shape((1, 1, 3, 3)),
            "wholly in padding",
        ),
        (lambda: ops.AvgPool2d(x="x", kernel=(2, 2), stride=(1, 1), divisor=0), "divisor"),
        (lambda: ops.Mean(x="x", axes=(4,)).shape((1, 3, 2, 2)), "axes"),
        (lambda: ops.Clamp(x="x", low=2.0, high=1.0), "above"),
        (lambda: ops.Softmax(x="x", axis=2).shape((1, 3)), "axis"),
        (lambda: ops.Add(x="x", y="y").shape((1, 3), (1, 2)), "broadcast"),
        (lambda: ops.Concat(xs=("x", "y"), axis=1).shape((1, 3, 2), (1, 3, 3)), "differ"),
        (lambda: ops.Reshape(x="x", to=(1, 5)).shape((1, 2, 2)), "elements"),
        (lambda: ops.Transpose(x="x", order=(0, 0)).shape((1, 2)), "order"),
        (lambda: ops.Pad(x="x", pads=((0, 0),)).shape((1, 2)), "pairs"),
        (lambda: ops.Slice(x="x", axis=1, start=2, stop=2).shape((1, 3)), "nothing"),
    ],
)
def test_operators_refuse_what_has_no_meaning(make, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()


def _graph() -> Graph:
    b = GraphBuilder()
    b.input("x", (1, 3))
    b.constant("w", np.ones((2, 3), np.float32))
    b.add(ops.Linear(x="x", weight="w", bias=None), "fc")
    b.add(ops.Relu(x="fc"), "relu")
    b.output("output", "relu")
    return b.build()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda g: replace(g, nodes=g.nodes[::-1]), "before it is given"),
        (lambda g: replace(g, nodes=(*g.nodes, g.nodes[-1])), "two values are named relu"),
        (lambda g: replace(g, nodes=(g.nodes[0], replace(g.nodes[1], shape=(1, 9)))), "says its shape is"),
        (lambda g: replace(g, outputs=(Output("output", "gone"),)), "nothing gives"),
        (lambda g: replace(g, outputs=(*g.outputs, Output("output", "fc"))), "two outputs"),
        (lambda g: replace(g, outputs=()), "no output"),
        (lambda g: replace(g, constants={**g.constants, "x": np.ones((1,), np.float32)}), "two values are named x"),
    ],
)
def test_verify_finds(break_it, message: str) -> None:
    assert verify(_graph())
    with pytest.raises(GraphError, match=message):
        verify(break_it(_graph()))


def test_a_bad_rewrite_is_named() -> None:
    def forgets_the_output(graph: Graph) -> Graph:
        return replace(graph, outputs=())

    with pytest.raises(GraphError, match="after forgets_the_output"):
        apply_rules(_graph(), [forgets_the_output])


def test_builder_drops_what_nothing_reads() -> None:
    b = GraphBuilder()
    b.input("x", (1, 3))
    b.constant("unused", np.ones(2, np.float32))
    b.add(ops.Tanh(x="x"), "dead")
    b.add(ops.Relu(x="x"), "relu")
    b.output("output", "relu")
    graph = b.build()
    assert [n.name for n in graph.nodes] == ["relu"]
    assert not graph.constants


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_constants_must_be_finite_in_float32(value: float) -> None:
    with pytest.raises(GraphError, match="NaN or infinite"):
        GraphBuilder().constant("w", np.array([1.0, value]))


def test_constants_are_read_only() -> None:
    graph = _graph()
    with pytest.raises(ValueError, match="read-only"):
        graph.constants["w"][0] = 1


def test_batch_that_is_mixed_is_found() -> None:
    b = GraphBuilder()
    b.input("x", (1, 4))
    b.add(ops.Reshape(x="x", to=(2, 2)), "mixed")
    b.output("output", "mixed")
    assert not batch_is_free(b.build())
    assert batch_is_free(_graph())


def test_analysis_of_a_net_counted_by_hand() -> None:
    graph = capture(create_model("conv_pool"), [torch.zeros(1, 1, 28, 28)])
    cost = analyse(graph)
    assert cost.parameters == 320 + 18_496 + 31_370
    assert cost.macs == 32 * 28 * 28 * 9 + 64 * 14 * 14 * 32 * 9 + 31_360
    assert [layer.receptive_field for layer in cost.layers] == [(3, 3), (4, 4), (8, 8), (10, 10), (34, 34)]
    # The first convolution's result and the first pooling's are alive together.
    assert cost.peak_bytes == 4 * (32 * 28 * 28 + 32 * 14 * 14)


def test_peak_counts_a_residual_that_waits() -> None:
    b = GraphBuilder()
    b.input("x", (1, 10))
    b.add(ops.Relu(x="x"), "a")
    b.add(ops.Tanh(x="a"), "b")
    b.add(ops.Add(x="a", y="b"), "sum")
    b.output("output", "sum")
    cost = analyse(b.build())
    assert (cost.peak_bytes, cost.peak_layer) == (3 * 40, "sum")
