"""Faults planted into an artifact are named by layer and cause; clean bundles have none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from support.faults import (
    edited_onnx,
    onnx_constant,
    planted,
    tflite_constant,
    tflite_operator,
    tflite_zero_point,
)
from support.int8 import quantized_graph
from torch import nn

import edgecnn
from edgecnn.bundle import Bundle, encode_golden, load_bundle
from edgecnn.capture.capture import capture
from edgecnn.cli import cli
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import BundleError, EdgecnnError
from edgecnn.export.onnx.edit import with_outputs
from edgecnn.export.tflite import parse
from edgecnn.export.written import Written
from edgecnn.locate import expected as expected_module
from edgecnn.locate import tap_outputs
from edgecnn.locate.causes import clipped_cause, float_kernels
from edgecnn.locate.expected import Expected
from edgecnn.locate.failures import locate_failures
from edgecnn.locate.locate import locate
from edgecnn.locate.location import Location
from edgecnn.locate.probe_session import ProbeSession
from edgecnn.locate.reexport import Reexport, reexport_artifact
from edgecnn.parity.bundle_check import check_bundle
from edgecnn.parity.golden_rules import rounding_of
from edgecnn.parity.runner import stored_inputs
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes.rounding_rules import HALF_EVEN
from edgecnn.targets.target import Target

Edit = Callable[[bytes], bytes]
NONE = Written(data=b"", operators={}, axes={})
RUNTIME = {"onnx": "onnxruntime", "tflite": "litert"}


class Net(nn.Module):
    """Small, with a branch, bounds, a pooling and a linear layer; square images of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6())
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.scores = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.stem(x), 2)
        x = torch.relu(self.left(x)) + self.right(x)
        return self.scores(x.flatten(1))


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Bundle:
    """A valid bundle of fp32 and int8 in both formats."""
    torch.manual_seed(4)
    module = Net().eval()
    with torch.no_grad():
        module.stem[0].weight.mul_(6)
    raw = np.random.default_rng(1).integers(0, 256, (48, 3, 8, 8)).astype(np.float32)
    preprocessing = Preprocessing(scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    x = preprocessing.apply(raw)
    folder = tmp_path_factory.mktemp("clean") / "net"
    return edgecnn.export_model(
        module, torch.zeros(1, 3, 8, 8), folder, precisions=["fp32", "int8"], calibration=x, name="net",
        preprocessing=preprocessing,
    )  # fmt: skip


class Kept:
    """A connection that is not closed by those who use it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Not yet."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class OneAgent:
    """This machine, with one agent for all tests: most of a short test is starting one."""

    name = "local"
    kind = "shared"  # there is only this one agent, not one for each core

    def __init__(self) -> None:
        self.connection: Connection | None = None

    def start(self, environment: str = "", *, time_limit: float = 60.0) -> Any:
        """The agent, which is started where there is none."""
        if self.connection is None or not self.connection.alive:
            self.connection = LocalHost().start(environment, time_limit=time_limit)
        return Kept(self.connection)


@pytest.fixture(scope="session")
def targets() -> Iterator[dict[str, Target]]:
    """The runtimes installed here, by format."""
    host: Any = OneAgent()
    yield {form: Target(runtime=name, host=host, name=f"{name}@local") for form, name in RUNTIME.items()}
    if host.connection is not None:
        host.connection.close()


def _located(bundle: Bundle, targets: dict[str, Target]) -> Location:
    (artifact,) = bundle.artifacts
    return locate(bundle, artifact, targets[artifact.format], failed=True)


def add(by: float, *place: int) -> Callable[[np.ndarray], np.ndarray]:
    """A change of one number."""

    def change(array: np.ndarray) -> np.ndarray:
        array[place] = array[place].astype(np.float64) + by
        return array

    return change


def _clip(model: Any) -> None:
    """The upper bound of the first Clip, three times as low."""
    node = next(n for n in model.graph.node if n.op_type == "Clip")
    tensor = next(t for t in model.graph.initializer if t.name == node.input[2])
    low = numpy_helper.to_array(tensor) / 3
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(low, np.float32), tensor.name))


def _pads(model: Any) -> None:
    """The padding of the layer left, on the other sides."""
    (node,) = [n for n in model.graph.node if n.op_type == "Conv" and n.output[0] == "left.linear"]
    (pads,) = [a for a in node.attribute if a.name == "pads"]
    pads.ints[:] = [2, 2, 0, 0]


def _zero_point(model: Any) -> None:
    """Another zero point where the layer right is quantized."""
    (node,) = [n for n in model.graph.node if n.output[0] == "right.q"]
    zero = numpy_helper.from_array(np.array(3, np.uint8), "other")
    model.graph.initializer.append(zero)
    node.input[2] = "other"


def _scale(model: Any) -> None:
    """A scale for another channel."""
    (tensor,) = [t for t in model.subgraphs[0].tensors if parse.name_of(t) == "left.weight"]
    scales = np.array(tensor.quantization.scale)
    scales[2] *= 4
    tensor.quantization.scale = scales


def _edited_scale(data: bytes) -> bytes:
    model = parse.parsed(data)
    _scale(model)
    return parse.packed(model)


def _activation(number: int) -> Callable[[Any], None]:
    return lambda options: setattr(options, "fusedActivationFunction", number)


WEIGHT, SCORES = "1 of 576 numbers of the weight", "1 of 5 numbers of the bias"
BUMP = add(0.5, 1, 2, 0, 0)
FAULTS: tuple[tuple[str, str, str, Edit, str, str], ...] = (
    ("weight", "onnx", "fp32", onnx_constant("left.weight", BUMP), "left", WEIGHT),
    ("bias", "onnx", "fp32", onnx_constant("scores.bias", add(1.0, 3)), "scores", SCORES),
    ("nan", "onnx", "fp32", onnx_constant("right.weight", add(np.nan, 0, 0, 0, 0)), "right", "NaN or infinite"),
    ("bound", "onnx", "fp32", edited_onnx(_clip), "stem.0", "the bound of"),
    ("padding", "onnx", "fp32", edited_onnx(_pads), "left", "the padding of left (Conv) is [2, 2, 0, 0]"),
    ("weight", "onnx", "int8", onnx_constant("left.weight.q", add(90, 1, 2, 0, 0)), "left", WEIGHT),
    ("bias", "onnx", "int8", onnx_constant("scores.bias.q", add(9000, 3)), "scores", SCORES),
    ("zero point", "onnx", "int8", edited_onnx(_zero_point), "right", "the zero point of"),
    ("weight", "tflite", "fp32", tflite_constant("left.weight", BUMP), "left", WEIGHT),
    ("activation", "tflite", "fp32", tflite_operator("left", _activation(0)), "left", "NONE instead of RELU"),
    ("bias", "tflite", "int8", tflite_constant("left.bias", add(9000, 3)), "left", "1 of 8 numbers of the bias"),
    ("scale", "tflite", "int8", _edited_scale, "left", "1 of 8 numbers of the scale"),
    ("zero point", "tflite", "int8", tflite_zero_point("right", 7), "right", "the zero point of right is"),
    ("bound", "tflite", "int8", tflite_operator("stem.0", _activation(2)), "stem.0", "RELU_N1_TO_1 instead of RELU6"),
)


@pytest.mark.parametrize(
    ("form", "precision", "edit", "layer", "cause"),
    [f[1:] for f in FAULTS],
    ids=[f"{f[2]} {f[1]} {f[0]}" for f in FAULTS],
)
def test_a_fault_of_the_file_is_named_by_layer_and_cause(
    clean, targets, tmp_path, form, precision, edit, layer, cause
) -> None:
    found = _located(planted(clean, tmp_path / "net", form, precision, edit), targets)
    assert found.layer.split(" ")[0] == layer
    assert cause in found.cause
    assert found.fault == "file"
    assert found.size
    broken = [line for line in found.lines if line.broken]
    assert broken
    assert all(line.anew is not None and line.anew.largest <= 1e-6 for line in found.lines)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_clean_artifact_has_no_fault(clean, targets, form, precision) -> None:
    found = locate(clean, clean.artifact(form, precision), targets[form], failed=False)
    assert not found.found
    assert len(found.lines) >= 5
    assert not [line for line in found.lines if line.broken]
    limit = 0 if precision == "int8" else 1e-6
    assert all(line.alone.largest <= max(limit, 1e-6 * (line.alone.unit == "range")) for line in found.lines[:3])


def test_values_are_given_out_without_breaking_what_the_runtime_fuses(clean, targets) -> None:
    artifact, target = clean.artifact("onnx", "fp32"), targets["onnx"]
    data, golden = artifact.read(), clean.golden()
    reexport = reexport_artifact(artifact, clean.program(), data, version=clean.manifest.versions["edgecnn"])
    assert reexport.written.data == data
    stored = stored_inputs(clean.manifest, artifact, [golden.inputs["x"][:2]])
    with ProbeSession(clean, artifact, target) as probe:
        points = tap_outputs.keep_fusions(tap_outputs.find_points(reexport, data, "float32"), probe, data, stored)
        tapped = with_outputs(data, [p.place.tensor for p in points.points], batch_free=True)
        own, seen = probe.kernels(data, "", stored), probe.kernels(tapped, "", stored)
    assert not points.refused
    assert points.merged
    assert {kind for kind, _ in own} == {kind for kind, _ in seen}
    assert sum(own.values()) == sum(seen.values())


def test_a_file_of_another_model_is_told(clean, targets, tmp_path) -> None:
    def edit(data: bytes) -> bytes:
        for name in ("stem.0.weight", "left.weight", "right.weight", "scores.weight"):
            data = onnx_constant(name, lambda a: a * 0.9 + 0.01)(data)
        return data

    found = _located(planted(clean, tmp_path / "net", "onnx", "fp32", edit), targets)
    assert "another model's" in found.cause
    assert "4 of 4 layers" in found.cause


def test_an_input_in_another_order_of_channels_is_told(clean, targets, tmp_path) -> None:
    edit = onnx_constant("stem.0.weight", lambda a: a[:, ::-1])
    found = _located(planted(clean, tmp_path / "net", "onnx", "fp32", edit), targets)
    assert found.layer.startswith("stem.0")
    assert "its channels in reverse order" in found.cause


def _with_golden(bundle: Bundle, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Bundle:
    """A copy with one artifact, its golden inputs changed."""
    import hashlib

    copy = planted(bundle, folder, "onnx", "fp32", edited_onnx(lambda m: setattr(m, "doc_string", "a copy")))
    golden = copy.golden()
    data = encode_golden(replace(golden, inputs={"x": np.ascontiguousarray(change(golden.inputs["x"]))}))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "golden.npz").write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_bundle(folder)


def _column(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(3, 1, 1)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda x: x.transpose(0, 1, 3, 2), "its height and width exchanged"),
        (lambda x: x * _column(0.2, 0.3, 0.25) + _column(0.4, 0.5, 0.6), "with mean and std taken off twice"),
        (lambda x: x[::-1], "do not belong together"),
    ],
    ids=["transposed", "not normalised", "shuffled"],
)
def test_inputs_that_are_not_the_model_s_are_told(clean, targets, tmp_path, change, cause) -> None:
    found = _located(_with_golden(clean, tmp_path / "net", change), targets)
    assert found.fault == "input"
    assert cause in found.cause


def test_a_layout_that_the_manifest_has_wrong_is_told(clean, targets, tmp_path) -> None:
    planted(clean, tmp_path / "net", "tflite", "fp32", edit_same)
    path = tmp_path / "net" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"][0]["axes"]["tflite"] = [0, 3, 2, 1]
    manifest["inputs"][0]["layouts"]["tflite"] = "NWHC"
    path.write_text(json.dumps(manifest))
    found = _located(load_bundle(tmp_path / "net"), targets)
    assert "stored in the order [0, 3, 2, 1], and it is [0, 2, 3, 1]" in found.cause


def edit_same(data: bytes) -> bytes:
    """Another description, which means nothing."""
    model = parse.parsed(data)
    model.description = "a copy"
    return parse.packed(model)


def test_a_file_that_the_runtime_refuses_is_located(clean, targets, tmp_path) -> None:
    edit = tflite_zero_point("max_pool2d", 9)  # XNNPACK wants the same parameters before and after it
    bundle = planted(clean, tmp_path / "net", "tflite", "int8", edit)
    report = check_bundle(bundle, targets=[targets["tflite"]])
    assert report.unjudged
    report = locate_failures(bundle, report, targets=[targets["tflite"]])
    (found,) = report.locations
    assert isinstance(found, Location)
    assert "max_pool2d" in found.layer
    assert "no answer from MAX_POOL_2D" in found.size
    assert "the zero point of max_pool2d" in found.cause


@pytest.mark.parametrize("data", [b"", b"junk" * 100, b"\x1c\x00\x00\x00TFL3" + bytes(100)])
def test_a_file_that_is_none_is_refused(clean, targets, tmp_path, data) -> None:
    for form in ("onnx", "tflite"):
        bundle = planted(clean, tmp_path / form, form, "fp32", lambda _: data)
        with pytest.raises(BundleError, match=r"damaged|cannot be examined|several graphs or none"):
            _located(bundle, targets)


def test_a_verdict_names_layer_and_cause_and_the_command_tells(clean, tmp_path) -> None:
    edit = onnx_constant("left.weight", add(0.5, 1, 2, 0, 0))
    planted(clean, tmp_path / "net", "onnx", "fp32", edit)
    command = ["check", str(tmp_path / "net"), "--target", "onnxruntime"]
    plot = tmp_path / "drift.svg"
    result = CliRunner().invoke(cli, [*command, "--plot", str(plot)], standalone_mode=False)
    assert result.return_value == 1
    assert "left (Conv2d) breaks its rule first, by" in plot.read_text()
    for word in ("layer: left (Conv2d left)", "cause: in the file, 1 of 576", "board local", "breaks its rule", "try:"):
        assert word in result.output
    quiet = CliRunner().invoke(cli, [*command, "--no-locate"], standalone_mode=False)
    assert quiet.return_value == 1
    assert "layer:" not in quiet.output


def test_a_report_has_layer_and_cause_in_its_verdicts(clean, targets, tmp_path) -> None:
    bundle = planted(clean, tmp_path / "net", "onnx", "fp32", onnx_constant("left.weight", BUMP))
    report = locate_failures(bundle, check_bundle(bundle, targets=[targets["onnx"]]), targets=[targets["onnx"]])
    told = json.loads(json.dumps(report.as_json()))
    assert told["verdicts"][0]["layer"] == "left (Conv2d left)"
    assert told["verdicts"][0]["cause"].startswith("in the file, 1 of 576")
    assert told["locations"][0]["lines"][0]["alone"]["unit"] == "range"
    passed = locate_failures(clean, check_bundle(clean, targets=[targets["onnx"]]), targets=[targets["onnx"]])
    assert passed.passed
    assert not passed.locations


def test_other_precisions_are_refused_by_name(clean) -> None:
    artifact = clean.artifact("tflite", "int8")
    other = replace(artifact, spec=edgecnn.bundle.ArtifactSpec(**{**_fields(artifact.spec), "precision": "int16x8"}))
    with pytest.raises(EdgecnnError, match="int16x8"):
        reexport_artifact(other, clean.program(), b"", version="0")


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


@pytest.mark.parametrize(
    ("runtime", "options", "rule"),
    [
        ("onnxruntime", {}, "half_even_fp32"),
        ("litert", {}, "xnnpack"),
        ("litert", {"xnnpack": False, "reference_kernels": True}, "litert_reference"),
        ("tflite-runtime", {}, "tflite_runtime_reference"),
        ("tflite-micro", {}, "gemmlowp"),
    ],
)
def test_runtimes_have_the_rules_of_their_kernels(runtime, options, rule) -> None:
    assert rounding_of(runtime, options).rule == rule


def test_parameters_that_the_manifest_has_wrong_are_told(clean, targets, tmp_path) -> None:
    planted(clean, tmp_path / "net", "tflite", "int8", edit_same)
    path = tmp_path / "net" / "manifest.json"
    manifest = json.loads(path.read_text())
    (params,) = manifest["artifacts"][0]["quantization"]["outputs"].values()
    params["zero_point"] += 1
    path.write_text(json.dumps(manifest))
    found = _located(load_bundle(tmp_path / "net"), targets)
    assert found.fault == "input"
    assert "for output, its program" in found.cause


def test_another_rule_of_rounding_is_recognised(clean, targets, monkeypatch) -> None:
    target = replace(targets["tflite"], options={"xnnpack": False, "reference_kernels": True})
    artifact = clean.artifact("tflite", "int8")
    assert not locate(clean, artifact, target, failed=True).found
    monkeypatch.setattr("edgecnn.locate.locate.rule_of", lambda *_: HALF_EVEN)
    found = locate(clean, artifact, target, failed=True)
    assert found.fault == "runtime"
    assert "the kernel rounds by the rule" in found.cause
    assert found.layer


def test_a_kernel_that_breaks_its_rule_is_told_from_the_file(clean, targets, monkeypatch) -> None:
    """The golden executor is given another weight, so that file and program agree and the kernel seems wrong."""
    artifact, target = clean.artifact("tflite", "fp32"), targets["tflite"]
    real = expected_module.expect

    def wrong(reexport, *given):
        constants = {**reexport.graph.constants, "left.weight": reexport.graph.constants["left.weight"] * 1.5}
        return real(replace(reexport, graph=replace(reexport.graph, constants=constants)), *given)

    monkeypatch.setattr("edgecnn.locate.locate.expect", wrong)
    found = locate(clean, artifact, target, failed=True)
    assert found.layer == "left (Conv2d left)"
    assert "litert's kernel for Conv2d is at fault there: the file is what its program gives" in found.cause


def test_a_range_that_calibration_cut_short_is_named(clean, tmp_path) -> None:
    torch.manual_seed(4)
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    graph = capture(Net().eval(), [torch.from_numpy(x[:1])])
    reexport = Reexport(
        form="onnx", precision="int8", graph=graph, quantized=quantized_graph(graph, [x * 0.2]), written=NONE
    )
    q = reexport.quantized
    cut = replace(q, activations={**q.activations, "x": quantized_graph(graph, [x]).activations["x"]})
    inputs = (cut.activations["x"].quantize(x),)
    expected = Expected(reexport=replace(reexport, quantized=cut), rule="", inputs=inputs, values={}, sums={})
    found = clipped_cause(expected)
    assert found is not None
    assert "cut the range of" in found.text
    whole = Expected(
        reexport=replace(reexport, quantized=quantized_graph(graph, [x])), rule="", inputs=inputs, values={}, sums={}
    )
    assert clipped_cause(whole) is None


def test_a_kernel_that_breaks_its_rule_is_not_the_fault_of_a_file_that_differs(
    clean, targets, tmp_path, monkeypatch
) -> None:
    """The golden executor has another weight in one layer, the file another bias in the last."""
    edit = tflite_constant("scores.bias", add(1e-3, 3))
    bundle = planted(clean, tmp_path / "net", "tflite", "fp32", edit)
    real = expected_module.expect

    def wrong(reexport, *given):
        constants = {**reexport.graph.constants, "left.weight": reexport.graph.constants["left.weight"] * 1.5}
        return real(replace(reexport, graph=replace(reexport.graph, constants=constants)), *given)

    monkeypatch.setattr("edgecnn.locate.locate.expect", wrong)
    found = _located(bundle, targets)
    assert found.layer == "left (Conv2d left)"
    assert found.fault == "runtime"
    assert "the re-exported operator does the same" in found.cause


def test_threads_that_change_values_are_told(clean, targets, monkeypatch) -> None:
    target = replace(targets["onnx"], options={"threads": 2})
    real = ProbeSession.run

    def run(self, data, what, inputs, *, options=None):
        outputs = real(self, data, what, inputs, options=options)
        return outputs if options else [o * 1.01 for o in outputs]

    monkeypatch.setattr(ProbeSession, "run", run)
    found = locate(clean, clean.artifact("onnx", "fp32"), target, failed=True)
    assert "with 2 threads" in found.cause
    assert found.remedy == "threads=1"


def test_float_kernels_of_an_int8_file_are_named(clean, targets) -> None:
    artifact = clean.artifact("onnx", "int8")
    stored = stored_inputs(clean.manifest, artifact, [clean.golden().inputs["x"][:1]])
    basic = replace(targets["onnx"], options={"graph_optimization": "basic"})
    with ProbeSession(clean, artifact, basic) as probe:
        found = float_kernels(probe, artifact.read(), stored)
    assert found is not None
    assert "in float kernels" in found.text
    with ProbeSession(clean, artifact, targets["onnx"]) as probe:
        assert float_kernels(probe, artifact.read(), stored) is None
