"""Every operator says what it is, and one that does not is refused by name."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import ClassVar

import numpy as np
import pytest

from edgecnn.errors import GraphError
from edgecnn.graph import ops
from edgecnn.graph.disjoint_sets import DisjointSets
from edgecnn.graph.graph import Graph, GraphBuilder
from edgecnn.graph.ops import OPS
from edgecnn.graph.traits import TRAITS, Parameters, Traits, traits_of
from edgecnn.graph.verify import batch_is_free


@dataclass(frozen=True, slots=True, kw_only=True)
class Twist:
    """An operator that nobody has described."""

    VALUES: ClassVar = ("x",)
    x: str

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_operator_has_a_row(op) -> None:
    assert op in TRAITS


def test_no_row_is_for_anything_else() -> None:
    assert set(TRAITS) == set(OPS)


def test_no_property_has_a_default() -> None:
    assert all(f.default is MISSING and f.default_factory is MISSING for f in fields(Traits))
    with pytest.raises(TypeError, match="exact"):
        Traits(  # type: ignore[call-arg]
            parameters=Parameters.OWN,
            moves_only=False,
            keeps_batch=lambda *_: True,
            channelwise=lambda *_: False,
            any_layout=False,
        )


def test_an_operator_without_a_row_is_refused_by_name() -> None:
    with pytest.raises(GraphError, match="Twist has no row"):
        traits_of(Twist(x="x"))  # type: ignore[arg-type]


def test_the_batch_of_an_operator_without_a_row_is_not_guessed() -> None:
    b = GraphBuilder()
    b.input("x", (1, 3))
    b.output("y", b.add(Twist(x="x"), "twisted"))  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="Twist has no row"):
        batch_is_free(b.build())


def test_what_only_moves_elements_shares_its_parameters() -> None:
    assert all(t.shares_parameters for t in TRAITS.values() if t.moves_only)
    assert {op for op, t in TRAITS.items() if t.shares_parameters and not t.moves_only} == {
        ops.AvgPool2d,
        ops.ResizeBilinear,
    }
    assert {op for op, t in TRAITS.items() if t.joins_parameters} == {ops.Concat, ops.Minimum, ops.Maximum}


IMAGE = (1, 4, 6, 6)


@pytest.mark.parametrize(
    ("op", "shapes", "result", "channelwise"),
    [
        (ops.Relu(x="x"), [IMAGE], IMAGE, True),
        (ops.Add(x="x", y="y"), [IMAGE, IMAGE], IMAGE, True),
        (ops.Add(x="x", y="y"), [IMAGE, (1, 1, 6, 6)], IMAGE, False),
        (ops.Conv2d(x="x", weight="w", bias=None), [IMAGE], IMAGE, False),
        (ops.Conv2d(x="x", weight="w", bias=None, groups=2), [IMAGE], IMAGE, False),
        (ops.Conv2d(x="x", weight="w", bias=None, groups=4), [IMAGE], IMAGE, True),
        (ops.Concat(xs=("x", "y"), axis=2), [IMAGE, IMAGE], (1, 4, 12, 6), True),
        (ops.Concat(xs=("x", "y"), axis=0), [IMAGE, IMAGE], (2, 4, 6, 6), False),
        (ops.Gather(x="x", axis=3, indices=(0,)), [IMAGE], (1, 4, 6, 1), True),
        (ops.Gather(x="x", axis=1, indices=(0,)), [IMAGE], (1, 1, 6, 6), False),
        (ops.Mean(x="x", axes=(2, 3)), [IMAGE], (1, 4), True),
        (ops.Mean(x="x", axes=(1,)), [IMAGE], (1, 6, 6), False),
        (ops.Pad(x="x", pads=((0, 0), (0, 0), (1, 1), (1, 1))), [IMAGE], (1, 4, 8, 8), True),
        (ops.Pad(x="x", pads=((0, 0), (1, 0), (0, 0), (0, 0))), [IMAGE], (1, 5, 6, 6), False),
        (ops.Reshape(x="x", to=(1, 4, 36)), [IMAGE], (1, 4, 36), True),
        (ops.Reshape(x="x", to=(1, 144)), [IMAGE], (1, 144), False),
        (ops.Transpose(x="x", order=(0, 2, 3, 1)), [IMAGE], (1, 6, 6, 4), False),
        (ops.Softmax(x="x", axis=1), [IMAGE], IMAGE, False),
    ],
    ids=str,
)
def test_channel_by_channel(op, shapes, result, channelwise: bool) -> None:
    assert traits_of(op).channelwise(op, shapes, result) == channelwise


def _graph(op: ops.Op, shape: tuple[int, ...] = IMAGE) -> Graph:
    b = GraphBuilder()
    b.input("x", shape)
    b.output("y", b.add(op, "made"))
    return b.build()


@pytest.mark.parametrize(
    ("op", "free"),
    [
        (ops.Relu(x="x"), True),
        (ops.MatMul(x="x", y="x"), True),
        (ops.Concat(xs=("x", "x"), axis=1), True),
        (ops.Concat(xs=("x", "x"), axis=0), False),
        (ops.Transpose(x="x", order=(0, 2, 3, 1)), True),
        (ops.Transpose(x="x", order=(1, 0, 2, 3)), False),
        (ops.Mean(x="x", axes=(0, 1), keepdim=True), False),
        (ops.Softmax(x="x", axis=0), False),
        (ops.Pad(x="x", pads=((1, 0), (0, 0), (0, 0), (0, 0))), False),
        (ops.Reshape(x="x", to=(4, 36)), False),
        (ops.Reshape(x="x", to=(1, 144)), True),
    ],
    ids=str,
)
def test_samples_of_a_batch_are_kept_apart(op: ops.Op, free: bool) -> None:
    assert batch_is_free(_graph(op)) == free


def test_a_constant_joined_to_a_value_does_not_grow_with_the_batch() -> None:
    b = GraphBuilder()
    b.input("x", (1, 3))
    constant = b.constant("c", np.zeros((1, 3)))
    b.output("y", b.add(ops.Concat(xs=("x", constant), axis=1), "joined"))
    graph = b.build()
    assert not batch_is_free(graph)
    assert batch_is_free(
        replace(graph, nodes=tuple(replace(n, op=ops.Add(x="x", y="c"), shape=(1, 3)) for n in graph.nodes))
    )


def test_joined_sets_have_one_root() -> None:
    sets = DisjointSets[str]()
    sets.join("a", "b", "c")
    sets.join("d", "e")
    assert len({sets.root(m) for m in "abc"}) == len({sets.root(m) for m in "de"}) == 1
    assert sets.root("a") != sets.root("d")
    sets.join("e", "c")
    assert len({sets.root(m) for m in "abcde"}) == 1
    assert sets.root("f") == "f"
