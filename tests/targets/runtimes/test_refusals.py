"""Operators that a runtime does not offer: named with layer, type and what to try, on every way to a runtime."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.environments import python_or_skip
from support.shared_host import shared_target
from torch import nn

import edgecnn
from edgecnn.bench.measure_bundle import bench_bundle
from edgecnn.bench.warmup import BenchSettings
from edgecnn.compare.run_comparison import compare_files
from edgecnn.locate.failures import locate_failures
from edgecnn.locate.locate import locate
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.runtimes.refusals import NotOfferedError, telling_lines, tflite_operators, unsupported_operators
from edgecnn.targets.target import Target

LITERT = RUNTIMES["litert"]
KERNELS = {"reference_kernels": True, "xnnpack": False}


class Depth(nn.Module):
    """A logarithm within a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(self.conv(x).abs() + 1)


class Net(nn.Module):
    """LOG, whose int8 form is new, and ELU, which reference kernels do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.act, self.head = Depth(), nn.ELU(), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.depth(x) - 0.5).flatten(1))


def exported(folder: Path, **options) -> edgecnn.Bundle:
    torch.manual_seed(0)
    data = np.random.default_rng(0).random((16, 1, 4, 4), dtype=np.float32)
    given = {"precisions": ["fp32", "int8"], **options}
    return edgecnn.export_model(
        Net().eval(), torch.zeros(1, 1, 4, 4), folder, name="net", formats=["tflite"], calibration=data, **given
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> edgecnn.Bundle:
    return exported(tmp_path_factory.mktemp("refusals") / "net")


@pytest.fixture(scope="module")
def kernels(agent) -> Target:
    """Reference kernels, which lack ELU in float and int8."""
    return shared_target(agent, "litert", **KERNELS)


def elsewhere(runtime: str) -> Target:
    host = LocalHost(python=python_or_skip(runtime), label="other")
    return Target(runtime=runtime, host=host, name=f"{runtime}@other")


@pytest.mark.parametrize(
    ("runtime", "said"),
    [("tflite-runtime", "Didn't find op for builtin opcode 'LOG' version '2'."), ("tflite-micro", "INT8 != FLOAT32")],
)
def test_a_type_that_is_not_offered(bundle, runtime, said) -> None:
    report = edgecnn.check_bundle(bundle, targets=[elsewhere(runtime)])
    assert [v.passed for v in report.verdicts] == [True]
    assert report.exit_code == 2
    (lost,) = report.unjudged
    assert (lost.artifact, lost.error.message) == (
        "net.int8.tflite",
        f"net.int8.tflite on {runtime}: LOG of int8 is not offered",
    )
    assert re.fullmatch(r"depth\.log \(module depth, \S*test_refusals\.py:\d+\), on other", lost.error.where)
    assert said in lost.error.why
    assert '[layers."depth.log"] precision = "float"' in lost.error.hint


def test_what_the_error_says_to_try_is_the_cure(tmp_path) -> None:
    (tmp_path / "recipe.toml").write_text('base = "int8"\n[layers."depth.log"]\nprecision = "float"\n')
    bundle = exported(tmp_path / "net", precisions=["int8"], recipe=str(tmp_path / "recipe.toml"))
    report = edgecnn.check_bundle(bundle, targets=[elsewhere("tflite-micro")])
    assert report.passed, [*report.verdicts, *report.unjudged]


def test_an_operator_that_is_not_there_at_all(bundle, kernels) -> None:
    report = edgecnn.check_bundle(bundle, targets=[kernels])
    assert (report.verdicts, report.exit_code) == ((), 2)
    kinds = [lost.error.message.split(": ")[1] for lost in report.unjudged]
    assert kinds == ["ELU of float32 is not offered", "ELU of int8 is not offered"]
    for lost in report.unjudged:
        assert lost.error.where.startswith("act (")
        assert lost.error.hint.startswith("reference_kernels=off")
        assert "LeakyReLU" in lost.error.hint
        assert "precision" not in lost.error.hint  # float is not offered either
    located = locate_failures(bundle, report, targets=[kernels])
    assert (located.locations, located.notes) == ((), report.notes)  # the error has said it


def test_locate_names_the_layer(bundle, kernels) -> None:
    """A runtime reads the list of operators first: a file cut in front of the operator would be refused too."""
    found = locate(bundle, bundle.artifact("tflite", "int8"), kernels)
    assert found.layer.startswith("act")
    assert (found.fault, found.cause) == ("runtime", "Didn't find op for builtin opcode 'ELU' version '1'.")


def test_bench_and_compare_say_it_too(bundle, kernels) -> None:
    report = bench_bundle(bundle, targets=[kernels], limits=BenchSettings(processes=1, seconds=0.01, warmup=0.0))
    assert not report.complete
    for result in report.results:
        assert "is not offered\n  where: act (" in result.error
    paths = [bundle.artifact("tflite", p).path for p in ("fp32", "int8")]
    with pytest.raises(NotOfferedError, match="ELU of float32 is not offered") as caught:
        compare_files(*paths, targets=[kernels])
    assert caught.value.where == "act, on local"


def test_onnx(agent) -> None:
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [1, 4]) for name in ("x", "middle", "y")
    ]
    nodes = [onnx.helper.make_node("Neg", ["x"], ["middle"], "first"), onnx.helper.make_node("Acos", ["middle"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "net", values[:1], values[2:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(NotOfferedError, match=r"net\.onnx on onnxruntime: Acos of float64 is not offered") as caught:
        agent.open("onnxruntime", model.SerializeToString(), "net.onnx")
    assert caught.value.where == "y, on local"
    assert "NOT_IMPLEMENTED" in caught.value.why


def test_other_failures_are_no_refusals(bundle) -> None:
    data = bundle.artifact("tflite", "int8").read()
    place = [o.kind for o in tflite_operators(data)].index("LOG")
    refusal = f"kernel.cc:1 Type INT8 is unsupported\nNode number {place} (LOG) failed to prepare."
    assert [o.value for o in unsupported_operators(data, refusal, LITERT)] == ["depth.log"]
    for said in (
        "Interpreter invocation failed.",
        f"reshape.cc:9 num_input_elements != num_output_elements\nNode number {place} (LOG) failed to prepare.",
        f"Failed to resize buffer. Requested: 99, available 3\n{refusal}",
        refusal.replace(f"number {place}", f"number {place + 1}"),  # another operator stands there
        refusal.replace(f"number {place}", "number 999"),
        "Didn't find op for builtin opcode 'LOG' version '7'",
        "Didn't find op for builtin opcode 'GELU'",
    ):
        assert unsupported_operators(data, said, LITERT) == [], said
    assert unsupported_operators(data[:200], "Didn't find op for builtin opcode 'LOG'", LITERT) == []


def test_words_leave_out_general_remarks() -> None:
    said = "Didn't find op for builtin opcode 'LOG' version '2'. An older version of this builtin might be supported."
    assert (
        telling_lines(said + "\nRegistration failed.\n", LITERT)
        == "Didn't find op for builtin opcode 'LOG' version '2'."
    )


def test_an_arena_that_is_too_small_is_no_refusal(bundle) -> None:
    target = elsewhere("tflite-micro")
    data = bundle.artifact("tflite", "fp32").read()
    with target.host.start() as connection, pytest.raises(edgecnn.errors.TargetError) as caught:
        connection.open("tflite-micro", data, "net.tflite", arena_bytes=2000)
    assert not isinstance(caught.value, NotOfferedError)
    assert "Requested" in caught.value.message  # TFLite Micro's own words, which it tells stderr alone
