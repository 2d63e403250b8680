"""Faults planted in good bundles: each is caught, and its layer and cause are named. A new fault is a row."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from false_alarms import alarms
from onnx import helper, numpy_helper
from support.faults import edited_onnx, edited_tflite, onnx_constant, planted, tflite_constant, tflite_operator
from support.faults import tflite_zero_point as zero_point
from support.golden import with_golden_inputs
from support.planted import (
    RELU,
    Change,
    Edit,
    Small,
    activation,
    nan,
    no_weights,
    one_off,
    onnx_input,
    same_padding,
    scale,
    swapped,
    times,
)
from support.shared_host import shared_target

import edgecnn
from edgecnn.bundle import Bundle, load_bundle
from edgecnn.data.calibration import of_samples
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.locate.failures import locate_failures
from edgecnn.locate.file_differences import file_differences
from edgecnn.parity.bundle_check import check_bundle
from edgecnn.parity.limits import Limits
from edgecnn.parity.verdict import CheckReport
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import is_built
from edgecnn.targets.hosts.emulated import EmulatedHost

RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: What is wrong.
        precision: Of the artifact it is planted in.
        form: Its format.
        edit: Makes the faulty file.
        layer: The module that is to be named; empty where the whole is at fault.
        cause: What the cause is to say.
    """

    name: str
    precision: str
    form: str
    edit: Edit
    layer: str
    cause: str


def onnx_attribute(node: str, key: str, value: Any) -> Edit:
    """A node has another attribute."""

    def change(model: onnx.ModelProto) -> None:
        found = next(n for n in model.graph.node if n.name == node)
        found.attribute.remove(next(a for a in found.attribute if a.name == key))
        found.attribute.append(helper.make_attribute(key, value))

    return edited_onnx(change)


FAULTS = (
    Fault("a weight", "fp32", "onnx", onnx_constant("head.weight", one_off), "head", "of the weight head.weight"),
    Fault("a weight", "fp32", "tflite", tflite_constant("head.weight", one_off), "head", "of the weight head.weight"),
    Fault("a weight by one", "int8", "onnx", onnx_constant("wide.weight.q", one_off), "wide", "1 of 864"),
    Fault("a weight by one", "int8", "tflite", tflite_constant("wide.weight", one_off), "wide", "1 of 864"),
    Fault("a NaN weight", "fp32", "onnx", onnx_constant("wide.weight", nan), "wide", "are NaN or infinite"),
    Fault("a NaN weight", "fp32", "tflite", tflite_constant("wide.weight", nan), "wide", "are NaN or infinite"),
    Fault("channels swapped", "fp32", "onnx", onnx_constant("wide.weight", swapped(1)), "wide", "weight wide.weight"),
    Fault("channels swapped", "fp32", "tflite", tflite_constant("wide.weight", swapped(3)), "wide", "weight"),
    Fault("channels swapped", "int8", "onnx", onnx_constant("wide.weight.q", swapped(1)), "wide", "of the weight"),
    Fault("channels swapped", "int8", "tflite", tflite_constant("wide.weight", swapped(3)), "wide", "of the weight"),
    Fault("a bias at double scale", "fp32", "onnx", onnx_constant("scores.bias", times(2)), "scores", "times 2"),
    Fault("a bias at double scale", "fp32", "tflite", tflite_constant("scores.bias", times(2)), "scores", "times 2"),
    Fault("a bias at double scale", "int8", "onnx", onnx_constant("head.bias.q", times(2)), "head", "of the bias"),
    Fault("a bias at double scale", "int8", "tflite", tflite_constant("head.bias", times(2)), "head", "times 2"),
    Fault("ReLU6 ends at 5", "fp32", "onnx", onnx_input("stem.0", 2, np.float32(5)), "stem", "bound"),
    Fault("ReLU for ReLU6", "fp32", "tflite", tflite_operator("stem.0", activation(RELU)), "stem", "RELU instead of"),
    Fault("other padding", "fp32", "onnx", onnx_attribute("wide.linear", "pads", [0, 0, 2, 2]), "wide", "padding"),
    Fault("SAME for a PAD", "fp32", "tflite", edited_tflite(same_padding), "wide", "padding"),
    Fault("SAME for a PAD", "int8", "tflite", edited_tflite(same_padding), "wide", "padding"),
    Fault("a zero point", "int8", "onnx", onnx_input("wide.q", 2, np.uint8(3)), "wide", "zero point"),
    Fault("a zero point", "int8", "tflite", zero_point("scores", 3), "scores", "zero point"),
    Fault("a scale", "int8", "onnx", onnx_constant("head.weight.scale", times(1.05)), "head", "scale"),
    Fault("a scale", "int8", "tflite", scale("head.weight", 1.05), "head", "scale"),
    Fault("the input's scale", "int8", "tflite", scale("x.q", 1.1), "", "scale"),
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(0).random((8, 3, 16, 16), np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, data) -> Bundle:
    return exported(tmp_path_factory.mktemp("faults") / "small", data, seed=0)


def exported(folder: Path, data: np.ndarray, *, seed: int) -> Bundle:
    """The small net with random weights, in both formats, float and int8."""
    torch.manual_seed(seed)
    means = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    return edgecnn.export_model(
        Small().eval(),
        torch.zeros(1, 3, 16, 16),
        folder,
        name="small",
        precisions=("fp32", "int8"),
        calibration=of_samples((means.apply(data),), "noise"),
        preprocessing=means,
    )


def examined(bundle: Bundle, agent: Any, form: str) -> CheckReport:
    """Check, and locate what failed."""
    target = shared_target(agent, RUNTIMES[form])
    return locate_failures(bundle, check_bundle(bundle, targets=[target]), targets=[target])


GOOD_TARGETS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("onnxruntime", {}),
    ("onnxruntime", {"graph_optimization": "basic"}),
    ("litert", {}),
    ("litert", {"xnnpack": False}),
    ("litert", {"xnnpack": False, "reference_kernels": True}),
)


@pytest.mark.parametrize(("runtime", "options"), GOOD_TARGETS)
def test_no_false_alarm(runtime: str, options: dict[str, Any], bundle, agent) -> None:
    """Every layer of good artifacts is looked into; benchmarks/false_alarms.py does it over the zoo and the boards."""
    assert alarms(bundle, [shared_target(agent, runtime, **options)]) == (2, [])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.name}, {f.precision} {f.form}")
def test_fault_is_caught_and_named(fault: Fault, bundle, agent, tmp_path: Path) -> None:
    report = examined(planted(bundle, tmp_path / "bad", fault.form, fault.precision, fault.edit), agent, fault.form)
    assert report.exit_code == 1
    (verdict,) = report.verdicts
    assert verdict.layer.startswith(fault.layer)
    assert fault.cause in verdict.cause


def before_input(*nodes: tuple[str, dict[str, Any], list[np.ndarray]]) -> Edit:
    """Operators between the input and all that read it, each with its attributes and constants."""

    def change(model: onnx.ModelProto) -> None:
        name = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["fed" if i == name else i for i in node.input]
        made = []
        for i, (kind, attributes, constants) in enumerate(nodes):
            held = [f"fed:{i}:{j}" for j in range(len(constants))]
            model.graph.initializer.extend(map(numpy_helper.from_array, constants, held))
            given = "fed" if i == len(nodes) - 1 else f"fed:{i}"
            made.append(
                helper.make_node(kind, [name if i == 0 else f"fed:{i - 1}", *held], [given], given, **attributes)
            )
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*made, *rest])

    return edited_onnx(change)


STD, MEAN = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((0.2, 0.25, 0.3), (0.4, 0.5, 0.6)))
TURNED = (("Transpose", {"perm": [0, 2, 3, 1]}, []), ("Reshape", {}, [np.array([-1, 3, 16, 16])]))
AT_THE_INPUT = (
    ("mean and std forgotten", before_input(("Mul", {}, [STD]), ("Add", {}, [MEAN])), "without mean and std"),
    ("NHWC fed as NCHW", before_input(*TURNED), "laid out NHWC and read as NCHW"),
    ("BGR for RGB", before_input(("Gather", {"axis": 1}, [np.array([2, 1, 0])])), "in reverse order"),
)


@pytest.mark.parametrize(("edit", "cause"), [row[1:] for row in AT_THE_INPUT], ids=[row[0] for row in AT_THE_INPUT])
def test_a_file_that_takes_its_input_for_another(edit: Edit, cause: str, bundle, agent, tmp_path: Path) -> None:
    report = examined(planted(bundle, tmp_path / "bad", "onnx", "fp32", edit), agent, "onnx")
    assert report.exit_code == 1
    assert cause in report.verdicts[0].cause


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda x: x * STD + MEAN, "with mean and std taken off twice"),
        (lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape), "laid out NCHW and read as NHWC"),
        (lambda x: x[:, ::-1], "in reverse order"),
    ],
    ids=["mean and std forgotten", "NHWC fed as NCHW", "BGR for RGB"],
)
def test_golden_inputs_that_are_others(change: Change, cause: str, bundle, agent, tmp_path: Path) -> None:
    """Every artifact fails; what is wrong is what they were fed."""
    report = examined(with_golden_inputs(bundle, tmp_path / "bad", change), agent, "tflite")
    assert [v.passed for v in report.verdicts] == [False, False]
    assert all("golden inputs only fit" in v.cause and cause in v.cause for v in report.verdicts)


@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_artifact_of_another_bundle(form: str, precision: str, bundle, other, agent, tmp_path: Path) -> None:
    data = other.artifact(form, precision).read()
    report = examined(planted(bundle, tmp_path / "bad", form, precision, lambda _: data), agent, form)
    assert report.exit_code == 1
    assert "another model's, or another training's" in report.verdicts[0].cause


@pytest.fixture(scope="module")
def other(tmp_path_factory, data) -> Bundle:
    return exported(tmp_path_factory.mktemp("faults") / "other", data, seed=1)


@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_truncated_file(form: str, precision: str, bundle, agent, tmp_path: Path) -> None:
    """Cut short on its way: its manifest knows better. Cut short when it was written: the runtime refuses it."""
    folder = tmp_path / "copied"
    shutil.copytree(bundle.directory, folder)
    name = bundle.artifact(form, precision).path.name
    (folder / name).write_bytes((folder / name).read_bytes()[:-1000])
    target = shared_target(agent, RUNTIMES[form])
    with pytest.raises(edgecnn.errors.BundleError, match="has changed since it was exported"):
        check_bundle(load_bundle(folder), targets=[target])
    bad = planted(bundle, tmp_path / "bad", form, precision, lambda data: data[: len(data) // 2])
    if form == "onnx":  # is read before any runtime sees it
        with pytest.raises(edgecnn.errors.BundleError, match="not an ONNX file, or it is damaged"):
            examined(bad, agent, form)
        return
    report = examined(bad, agent, form)
    assert report.exit_code == 2
    assert "damaged" in " ".join(report.notes)


def test_an_artifact_that_crashes_the_runtime(bundle, tmp_path: Path) -> None:
    """In a process of its own: the check says so, and which layer it is."""
    bad = planted(bundle, tmp_path / "bad", "tflite", "fp32", edited_tflite(no_weights))
    report = check_bundle(bad, targets=["litert"])
    assert report.exit_code == 2
    report = locate_failures(bad, report)
    (location,) = report.locations
    assert location.layer.startswith("stem")


def test_a_weight_that_no_sample_shows(bundle, agent, tmp_path: Path) -> None:
    """Rounding swallows one step of one weight: the outputs are right, and still the file is not what it should be."""
    edit = onnx_constant("head.weight.q", one_off)
    bad = planted(bundle, tmp_path / "bad", "onnx", "int8", edit)
    target = shared_target(agent, "onnxruntime")
    report = check_bundle(bad, targets=[target])
    assert report.passed
    (location,) = locate_failures(bad, report, everything=True, targets=[target]).locations
    assert location.layer.startswith("head")
    assert "1 of 96 numbers of the weight" in location.cause
    report = check_bundle(bad, targets=[target], inspect=file_differences(bad))
    (verdict,) = report.verdicts
    assert (verdict.metric, verdict.value, verdict.limit, verdict.passed) == ("file_differences", 1.0, 0.0, False)
    assert "in the file that are not its program's is 1" in verdict.reason
    assert locate_failures(bad, report, targets=[target]).verdicts[0].layer.startswith("head")
    allowed = Limits.parse(["file_differences=1"])
    assert check_bundle(bad, targets=[target], inspect=file_differences(bad), limits=allowed).passed


def test_a_file_that_only_says_other_words_about_itself_is_no_other_file(bundle, agent, tmp_path: Path) -> None:
    edit = edited_tflite(lambda model: setattr(model, "description", "with labels added"))
    bad = planted(bundle, tmp_path / "bad", "tflite", "int8", edit)
    assert file_differences(bad)(bad.artifacts[0]) == 0
    junk = planted(bundle, tmp_path / "junk", "tflite", "int8", lambda _: b"junk" * 100)
    assert file_differences(junk)(junk.artifacts[0]) == 1


def test_a_good_file_is_known_by_its_digest(bundle, agent, monkeypatch) -> None:
    """Nothing is exported again for it, so that this costs a check no time."""
    monkeypatch.setattr("edgecnn.locate.file_differences.reexport_artifact", None)
    report = check_bundle(bundle, targets=[shared_target(agent, "litert")], inspect=file_differences(bundle))
    assert report.passed
    assert all(v.limits["file_differences"] == 0 for v in report.verdicts)
    assert {v.metric for v in report.verdicts} == {"relative_error", "lsb_max"}


@pytest.mark.skipif(not is_built(load_board("x86-64-v3")), reason="edgecnn targets emulate x86-64-v3 builds the board")
def test_saturation_without_vnni(tmp_path: Path) -> None:
    from support.int8 import saturating

    module, inputs = saturating()
    bundle = edgecnn.export_model(
        module.eval(),
        torch.zeros(1, 2, 8, 8),
        tmp_path / "net",
        formats=["onnx"],
        precisions=["int8"],
        calibration=inputs[:4],
    )
    board = EmulatedHost(load_board("x86-64-v3"))
    with board.start(board.environment_of("onnxruntime"), time_limit=300) as slow:
        target = shared_target(slow, "onnxruntime", "x86-64-v3", precision=False)
        report = locate_failures(bundle, check_bundle(bundle, targets=[target]), targets=[target])
    assert report.exit_code == 1
    assert report.verdicts[0].layer.startswith("0")  # the first of those that go wrong
    assert "int16" in report.verdicts[0].cause
    assert "int8-7bit" in report.verdicts[0].cause
