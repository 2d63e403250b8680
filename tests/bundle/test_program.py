"""The program in a bundle: it is read as it was written, whatever the operators, and nothing else is."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.int8 import network, quantized_graph

from edgecnn.bundle import Program, decode_program, encode_program
from edgecnn.bundle.npz_codec import encode_npz
from edgecnn.capture.capture import capture
from edgecnn.errors import BundleError
from edgecnn.graph import ops
from edgecnn.graph.graph import Graph, GraphBuilder, Origin
from edgecnn.graph.ops import OPS, Activation, Padding
from edgecnn.models import ZOO
from edgecnn.program.quantized import QuantizedGraph

IMAGE, ROW = (1, 4, 6, 6), (1, 8)
EXAMPLES: dict[type, tuple[ops.Op, ...]] = {
    ops.Conv2d: (
        ops.Conv2d(x="image", weight="w", bias="b", stride=(2, 1), padding=Padding(1, 0, 2, 1), dilation=(1, 2)),
        ops.Conv2d(x="image", weight="w", bias=None, activation=Activation.RELU6),
    ),
    ops.ConvTranspose2d: (ops.ConvTranspose2d(x="image", weight="w", bias=None, stride=(2, 2), output_padding=(1, 0)),),
    ops.Linear: (
        ops.Linear(x="row", weight="m", bias=None),
        ops.Linear(x="image", weight="l", bias=None, flatten=True),
    ),
    ops.MatMul: (ops.MatMul(x="image", y="image"),),
    ops.MaxPool2d: (ops.MaxPool2d(x="image", kernel=(2, 3), stride=(1, 2), padding=Padding(0, 1, 1, 0)),),
    ops.AvgPool2d: (ops.AvgPool2d(x="image", kernel=(2, 2), stride=(2, 2), overhang=(1, 1), divisor=3),),
    ops.Clamp: (ops.Clamp(x="row", low=-0.1), ops.Clamp(x="row", low=1e-30, high=2.5)),
    ops.LeakyRelu: (ops.LeakyRelu(x="row", slope=0.1),),
    ops.PRelu: (ops.PRelu(x="image", slope="c"),),
    ops.Gelu: (ops.Gelu(x="row", approximate=True),),
    ops.Pow: (ops.Pow(x="row", exponent=-0.5),),
    ops.Softmax: (ops.Softmax(x="row", axis=1),),
    ops.LogSoftmax: (ops.LogSoftmax(x="row", axis=1),),
    ops.Concat: (ops.Concat(xs=("image", "image", "image"), axis=1),),
    ops.Reshape: (ops.Reshape(x="row", to=(1, 2, 4)),),
    ops.Transpose: (ops.Transpose(x="image", order=(0, 2, 3, 1)),),
    ops.Pad: (ops.Pad(x="row", pads=((0, 0), (1, 2)), value=-math.inf),),
    ops.Slice: (ops.Slice(x="row", axis=1, start=1, stop=7, step=2),),
    ops.Gather: (ops.Gather(x="row", axis=1, indices=(3, 1)),),
    ops.GatherImage: (ops.GatherImage(x="image", rows=(1, 1), columns=(0, 5)),),
    ops.DepthToSpace: (ops.DepthToSpace(x="image", block=2, channels_first=True),),
    ops.SpaceToDepth: (ops.SpaceToDepth(x="image", block=2),),
    ops.ResizeBilinear: (ops.ResizeBilinear(x="image", to=(12, 3), factors=(2.0, 0.5)),),
    ops.ArgMax: (ops.ArgMax(x="row", axis=1, keepdim=True),),
    ops.Mean: (ops.Mean(x="image", axes=(2, 3), keepdim=True),),
    ops.Sum: (ops.Sum(x="image", axes=(1,)),),
    ops.Amax: (ops.Amax(x="image", axes=(2, 3)),),
    ops.Amin: (ops.Amin(x="image", axes=(2,)),),
}


def _examples(op: type) -> tuple[ops.Op, ...]:
    if op in EXAMPLES:
        return EXAMPLES[op]
    names = [f.name for f in fields(op) if f.name in op.VALUES]
    return (op(**dict.fromkeys(names, "row")),)


def _graph(*operators: ops.Op) -> Graph:
    builder = GraphBuilder()
    builder.input("image", IMAGE)
    builder.input("row", ROW)
    rng = np.random.default_rng(0)
    for name, shape in {"w": (4, 4, 3, 2), "b": (4,), "m": (8, 8), "l": (2, 144), "c": (4, 1, 1)}.items():
        builder.constant(name, rng.normal(size=shape).astype(np.float32))
    for i, op in enumerate(operators):
        origin = Origin(f"features.{i}", "/home/me/net.py:17", "aten.op")
        builder.output(f"y{i}", builder.add(op, f"value{i}", origin))
    return builder.build()


def _same_graph(a: Graph, b: Graph) -> None:
    assert (a.inputs, a.outputs, list(a.constants)) == (b.inputs, b.outputs, list(b.constants))
    assert [(n.name, n.op, n.shape, n.origin.module) for n in a.nodes] == [
        (n.name, n.op, n.shape, n.origin.module) for n in b.nodes
    ]
    for name, array in a.constants.items():
        np.testing.assert_array_equal(array, b.constants[name])
        assert array.shape == b.constants[name].shape
        assert not b.constants[name].flags.writeable


def _same_quantized(a: QuantizedGraph, b: QuantizedGraph) -> None:
    _same_graph(a.graph, b.graph)
    assert dict(a.activations) == dict(b.activations)
    assert (a.skipped, a.weight_limit, a.notes) == (b.skipped, b.weight_limit, b.notes)
    assert list(a.weights) == list(b.weights)
    for name, weights in a.weights.items():
        np.testing.assert_array_equal(weights.integers, b.weights[name].integers)
        np.testing.assert_array_equal(weights.scales, b.weights[name].scales)
    for name, bias in a.biases.items():
        np.testing.assert_array_equal(bias, b.biases[name], strict=True)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_operator_is_read_as_it_was_written(op: type) -> None:
    graph = _graph(*_examples(op))
    read = decode_program(encode_program(Program(graph=graph)))
    _same_graph(graph, read.graph)
    assert read.quantized is None
    assert read.graph.nodes[0].origin == Origin("features.0", "net.py:17", "aten.op")


@pytest.mark.parametrize("name", ["lenet5"])
def test_models_of_the_zoo_are_read_as_they_were_written(name: str) -> None:
    module = network(name)
    shape = ZOO[name].input_shape
    graph = capture(module, [torch_zeros(shape)])
    _same_graph(graph, decode_program(encode_program(Program(graph=graph))).graph)


def torch_zeros(shape: tuple[int, ...]) -> Any:
    import torch

    return torch.zeros(1, *shape)


@pytest.fixture(scope="module")
def program() -> Program:
    """A small model and its integers."""
    module = network("conv_pool")
    x = np.random.default_rng(0).random((16, *ZOO["conv_pool"].input_shape), np.float32)
    graph = capture(module, [torch_zeros(x.shape[1:])])
    return Program(graph=graph, quantized=quantized_graph(graph, [x]))


def test_integers_are_read_as_they_were_written(program: Program) -> None:
    data = encode_program(program)
    read = decode_program(data)
    assert program.quantized is not None
    assert read.quantized is not None
    _same_quantized(program.quantized, read.quantized)
    assert encode_program(read) == data


def test_a_constant_is_stored_once(program: Program, tmp_path) -> None:
    (tmp_path / "program.npz").write_bytes(encode_program(program))
    with np.load(tmp_path / "program.npz", allow_pickle=False) as npz:
        floats = [npz[k] for k in npz.files if npz[k].dtype == np.float32 and npz[k].ndim > 1]
    assert len(floats) == sum(a.ndim > 1 for a in program.graph.constants.values())
    read = decode_program((tmp_path / "program.npz").read_bytes())
    shared = set(map(id, read.graph.constants.values())) & set(map(id, read.quantized.graph.constants.values()))
    assert shared


def test_layers_left_in_float_are_kept(program: Program) -> None:
    first = program.quantized.graph.nodes[0].name
    q = replace(program.quantized, skipped=frozenset([first]), weights={}, biases={})
    kept = {n.op.weight: program.quantized.weights[n.op.weight] for n in _weighted(q) if n.name != first}
    biases = {n.name: program.quantized.biases[n.name] for n in _weighted(q) if n.name != first}
    q = replace(q, weights=kept, biases=biases, notes=("one note",))
    _same_quantized(q, decode_program(encode_program(replace(program, quantized=q))).quantized)


def _weighted(q: QuantizedGraph) -> list[Any]:
    return [n for n in q.graph.nodes if isinstance(n.op, ops.Conv2d | ops.Linear)]


def test_reading_needs_no_torch(program: Program, tmp_path) -> None:
    (tmp_path / "program.npz").write_bytes(encode_program(program))
    script = """
import sys
sys.modules["torch"] = None
from edgecnn.bundle import decode_program
assert decode_program(open(sys.argv[1], "rb").read()).quantized.biases
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "program.npz")], check=True)


# ------------------------------------------------------------------------------------------------------ hostile input


def _parts(program: Program) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import io

    with np.load(io.BytesIO(encode_program(program)), allow_pickle=False) as npz:
        arrays = {key: npz[key] for key in npz.files}
    return json.loads(arrays.pop("program").tobytes()), arrays


def _packed(text: Any, arrays: dict[str, np.ndarray]) -> bytes:
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return encode_npz([("program", np.frombuffer(data, np.uint8)), *arrays.items()])


def _nodes(t: dict[str, Any]) -> list[Any]:
    return t["graph"]["nodes"]


def _set(path: str, value: Any) -> Any:
    def change(t: Any, _: Any) -> None:
        *way, last = [int(p) if p.lstrip("-").isdigit() else p for p in path.split("/")]
        for step in way:
            t = t[step]
        t[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("graph/nodes/0/operator", "Exec"), "unknown operator 'Exec'"),
        (_set("graph/nodes/0/fields/stride", [0, 1]), "must be positive"),
        (_set("graph/nodes/0/fields/stride", ["1", 1]), "Expected `int`"),
        (_set("graph/nodes/0/fields/stride", [1]), "length 2"),
        (_set("graph/nodes/0/fields/activation", "sine"), "Invalid enum value"),
        (_set("graph/nodes/0/fields/more", 1), "does not have the fields of the operator"),
        (_set("graph/nodes/0/fields/groups", {"infinite": 1}), "Expected `int`"),
        (_set("graph/nodes/0/fields/groups", {"nan": 1}), "neither a number"),
        (_set("graph/nodes/0/shape", [1, 2, 3, 4]), "says its shape"),
        (_set("graph/nodes/0/name", "a\x1bb"), "control character"),
        (_set("graph/nodes/0/fields/x", "nothing"), "before it is given"),
        (_set("graph/inputs/0/1", [1, 2**31, 2**31, 1]), "positive and bounded"),
        (_set("graph/outputs/0/1", "nothing"), "nothing gives"),
        (_set("graph/constants/0/1", 999), "array 999 does not exist"),
        (_set("graph/extra", 1), "unknown field"),
        (_set("quantized/activations/0/1", -1.0), "scale of -1.0"),
        (_set("quantized/activations/0/2", 300), "zero point of 300"),
        (_set("quantized/activations/0/0", "other"), "parameters of 'other'"),
        (_set("quantized/weights", []), "has no integers"),
        (_set("quantized/weight_limit", 1000), "limit of weights"),
        (_set("quantized/skipped", ["other"]), "float layers of 'other'"),
        (lambda t, _: t["quantized"]["activations"].pop(0), "no parameters"),
        (lambda t, _: t["quantized"]["biases"].append(t["quantized"]["biases"][0]), "occurs twice"),
        (lambda _, a: a.update({"array/99": np.ones(3)}), "nothing uses"),
        (lambda _, a: a.update({"array/0": np.full_like(a["array/0"], np.nan)}), "NaN or infinite"),
        (lambda _, a: a.update({"array/0": a["array/0"].astype(np.float64)}), "not float32"),
    ],
)
def test_programs_that_are_refused(program: Program, change: Any, message: str) -> None:
    text, arrays = _parts(program)
    change(text, arrays)
    with pytest.raises(BundleError, match=message) as caught:
        decode_program(_packed(text, arrays), where="program.npz")
    assert caught.value.where == "program.npz"


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 10_000, b'{"graph": NaN, "quantized": null}'])
def test_texts_that_are_refused(text: bytes) -> None:
    with pytest.raises(BundleError, match="the program is invalid"):
        decode_program(_packed(text, {}))


def test_a_program_without_text_is_refused() -> None:
    with pytest.raises(BundleError, match="the program is invalid"):
        decode_program(encode_npz([("array/0", np.ones(1, np.float32))]))


def test_windows_beyond_measure_are_refused_before_they_are_walked() -> None:
    text, arrays = _parts(Program(graph=_graph(*EXAMPLES[ops.MaxPool2d])))
    _nodes(text)[0]["fields"] |= {"kernel": [10**9, 10**9], "padding": [10**9 - 1] * 4}
    with pytest.raises(BundleError, match="too large"):
        decode_program(_packed(text, arrays))


SMALL = encode_program(Program(graph=_graph(*EXAMPLES[ops.Conv2d], *EXAMPLES[ops.Clamp])))


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_programs_are_refused_or_valid(where: int, junk: bytes) -> None:
    damaged = SMALL[:where] + junk + SMALL[where + len(junk) :]
    try:
        read = decode_program(damaged)
    except BundleError:
        return
    assert read.graph.nodes


def test_too_large_a_program_is_refused(monkeypatch) -> None:
    from edgecnn.bundle import program as module

    monkeypatch.setattr(module, "_KIND", replace(module._KIND, max_members=1))
    with pytest.raises(BundleError, match="declare"):
        decode_program(SMALL)
