"""What emulated boards compute: int8 bit by bit as x86 does, fp32 within 1e-5 of the output's range."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.emulated import MODELS, RUNTIMES, artifact, case, outputs, qemu
from support.int8 import (
    EXPORTERS,
    NETWORKS,
    Executor,
    alone,
    compared,
    images,
    integers,
    network,
    quantized_network,
    run,
    saturating,
)
from support.shared_host import shared_target

import edgecnn
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.golden.integer import execute_integer, execute_node
from edgecnn.models import ZOO
from edgecnn.targets.boards import load_board
from edgecnn.targets.hosts.host import survey

FLOAT_LIMIT = 1e-5
"""Largest error of fp32 as a share of the output's range."""


@qemu
@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("board", ["pi4", "pi5"])
def test_int8_is_bit_identical_to_x86(boards, agent, board: str, name: str, form: str) -> None:
    data, given = artifact(name, form, "int8")
    runtime = RUNTIMES[form]
    np.testing.assert_array_equal(
        outputs(boards(board, runtime), runtime, data, given), outputs(agent, runtime, data, given)
    )


@qemu
@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("board", ["pi4", "pi5"])
def test_fp32_is_within_1e_5_of_the_range(boards, board: str, name: str, form: str) -> None:
    module, x, _ = case(name)
    data, given = artifact(name, form, "fp32")
    with torch.inference_mode():
        expected = module.double()(torch.as_tensor(x).double()).numpy()
    module.float()
    got = outputs(boards(board, RUNTIMES[form]), RUNTIMES[form], data, given)
    assert np.abs(got - expected).max() <= FLOAT_LIMIT * np.ptp(expected)


@qemu
@pytest.mark.parametrize("name", NETWORKS)
def test_each_operator_on_32_bits(boards, name: str) -> None:
    """tflite-runtime is within 1 of the golden executor, each operator on what that gives it."""
    agent = boards("pi2", "tflite-runtime")
    _, x, q = case(name)
    executor = Executor("tflite", "tflite-runtime", {}, "gemmlowp")
    golden = execute_integer(q, integers(q, [x[:3]]), rounding="gemmlowp")
    for node in q.graph.nodes:
        one = alone(q, node)
        expected = execute_node(one, node, golden, rounding="gemmlowp")
        given = [golden[i.name] for i in one.graph.inputs]
        (got,) = run(agent, executor, one, export_tflite_int8(one, version="0"), given)
        result = compared(node, "tflite-runtime on pi2", got, expected)
        assert result.worst <= 1, result


@qemu
@pytest.mark.parametrize("board", ["pi2", "pi4"])
@pytest.mark.parametrize("name", MODELS)
def test_tflite_runtime_has_the_same_best_class(boards, board: str, name: str) -> None:
    _, x, q = case(name)
    data, given = artifact(name, "tflite", "int8")
    got = outputs(boards(board, "tflite-runtime"), "tflite-runtime", data, given)
    golden = execute_integer(q, integers(q, [x]))[q.graph.outputs[0].value]
    # Values that are equal as integers have no best one among them.
    best = np.take_along_axis(golden, got.argmax(1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(best, golden.max(1))


@qemu
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_on_x86_without_vnni(boards, name: str) -> None:
    """ONNX Runtime is exact with the session option and, with uint8 weights, without it: 0 differences."""
    q = quantized_network(name)
    x = images(network(name).input_shape, 2)
    golden = execute_integer(q, integers(q, [x]))
    board = boards("x86-64-v3", "onnxruntime")
    for stored, options in ((q, {}), (replace(q, uint8_weights=True), {"precision": False})):
        executor = Executor("onnx", "onnxruntime", options, "half_even_fp32")
        found = run(board, executor, stored, EXPORTERS["onnx"](stored, version="0"), integers(q, [x]))
        for output, got in zip(q.graph.outputs, found, strict=True):
            np.testing.assert_array_equal(got, golden[output.value], err_msg=f"{output.name} {options}")


@qemu
@pytest.mark.parametrize("board", ["pi4", "pi5"])
@pytest.mark.parametrize("name", MODELS)
def test_uint8_weights_on_arm(boards, board: str, name: str) -> None:
    _, x, q = case(name)
    executor = Executor("onnx", "onnxruntime", {}, "half_even_fp32")
    written = EXPORTERS["onnx"](replace(q, uint8_weights=True), version="0")
    found = run(boards(board, "onnxruntime"), executor, q, written, integers(q, [x]))
    np.testing.assert_array_equal(found[0], execute_integer(q, integers(q, [x]))[q.graph.outputs[0].value])


@qemu
@pytest.mark.parametrize("recipe", ["int8", "int8-7bit", "int8-uint8-weights"])
def test_x86_without_vnni_saturates_unless_a_recipe_prevents_it(boards, agent, tmp_path: Path, recipe: str) -> None:
    module, x = saturating()
    bundle = edgecnn.export_model(
        module.eval(), torch.zeros(1, 2, 8, 8), tmp_path / "q", precisions=["int8"], recipe=recipe, calibration=x
    )
    onnx, tflite = bundle.artifact("onnx", "int8"), bundle.artifact("tflite", "int8")
    warned = any("can saturate in" in note for note in onnx.spec.notes)
    assert warned == (recipe == "int8")
    # The files are one integer program, of operators that no runtime computes differently.
    nhwc = np.ascontiguousarray(x.transpose(bundle.manifest.inputs[0].axes["tflite"]))
    expected = outputs(agent, "litert", tflite.read(), nhwc)
    np.testing.assert_array_equal(outputs(boards("x86-64-v3", "litert"), "litert", tflite.read(), nhwc), expected)
    board = boards("x86-64-v3", "onnxruntime")
    np.testing.assert_array_equal(outputs(board, "onnxruntime", onnx.read(), x), expected)
    got = outputs(board, "onnxruntime", onnx.read(), x, precision=False)
    assert bool((got != expected).any()) == warned
    # A check of the board says how far sessions without the option are.
    report = edgecnn.check_bundle(bundle, targets=[shared_target(board, "onnxruntime", "x86-64-v3")])
    assert report.passed
    assert [plain.lsb_max > 0 for plain in report.plain_sessions] == [True] * warned


@qemu
@pytest.mark.parametrize("name", ["pi4", "pi5", "pi2", "x86-64-v3"])
def test_a_board_has_the_runtimes_that_its_file_says(boards, name: str) -> None:
    found = survey(boards.host(name))
    assert dict(found.problems) == {}
    board = load_board(name)
    assert {runtime: item.version for runtime, item in found.runtimes.items()} == board.runtimes
    assert {info.machine for info in found.agents.values()} == {board.architecture}
