"""int16x8 and int8-dynamic artifacts: faults planted into them are named, and good ones have none."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.faults import planted, tflite_constant, tflite_operator
from support.planted import Small, one_off, scale, swapped, times
from support.shared_host import shared_target

import edgecnn
from edgecnn.bundle import Bundle, Program, decode_program, encode_program, load_bundle
from edgecnn.bundle.npz_codec import encode_npz
from edgecnn.capture.capture import capture
from edgecnn.data.calibration import of_samples
from edgecnn.errors import BundleError, EdgecnnError, UsageError
from edgecnn.locate.failures import locate_failures
from edgecnn.locate.locate import locate
from edgecnn.locate.location import Location
from edgecnn.locate.reexport import reexport_artifact
from edgecnn.locate.shrink import shrink
from edgecnn.parity.bundle_check import check_bundle
from edgecnn.quantize.observe import observe
from edgecnn.quantize.quantize16 import quantize_int16
from edgecnn.targets.runtimes.rounding_rules import RoundingRule

REFERENCE = {"xnnpack": False, "reference_kernels": True}
PLAIN = {"xnnpack": False}
KERNELS = pytest.mark.parametrize("options", [{}, PLAIN, REFERENCE], ids=["xnnpack", "plain", "reference"])
PRECISIONS = ("int16x8", "int8-dynamic")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    return edgecnn.export_model(
        Small().eval(),
        torch.zeros(1, 3, 16, 16),
        tmp_path_factory.mktemp("precisions") / "small",
        name="small",
        formats=["tflite"],
        precisions=PRECISIONS,
        calibration=of_samples((x,), "noise"),
    )


def located(bundle: Bundle, agent: Any, precision: str, **options: Any) -> Location:
    return locate(bundle, bundle.artifact("tflite", precision), shared_target(agent, "litert", **options), failed=True)


@KERNELS
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_good_artifact_has_no_fault(precision: str, options: dict[str, Any], bundle, agent) -> None:
    found = located(bundle, agent, precision, **options)
    assert not found.found
    assert not found.notes
    assert {"stem.0", "wide", "head", "scores"} <= {line.value for line in found.lines}
    limit = 0.0 if precision == "int16x8" else 1e-6
    assert all(line.alone.largest <= limit for line in found.lines if line.operator in ("Conv2d", "Linear"))
    if not options:  # nothing in this net is outside of its exact rules
        assert all(line.drift.largest <= limit for line in found.lines)


ReLU: Callable[[Any], None] = lambda options: setattr(options, "fusedActivationFunction", 1)  # noqa: E731
FAULTS: tuple[tuple[str, str, Callable[[bytes], bytes], str, str], ...] = (
    ("a weight", "int16x8", tflite_constant("wide.weight", one_off), "wide", "1 of 864 numbers of the weight"),
    ("channels swapped", "int16x8", tflite_constant("wide.weight", swapped(3)), "wide", "of the weight"),
    ("a bias at double scale", "int16x8", tflite_constant("head.bias", times(2)), "head", "times 2"),
    ("a scale", "int16x8", scale("head.weight", 1.05), "head", "scale"),
    ("the input's scale", "int16x8", scale("x.q", 1.1), "x", "scale"),
    ("ReLU for ReLU6", "int16x8", tflite_operator("stem.0", ReLU), "stem", "RELU instead of"),
    ("a weight", "int8-dynamic", tflite_constant("wide.weight", one_off), "wide", "1 of 864 numbers of the weight"),
    ("channels swapped", "int8-dynamic", tflite_constant("wide.weight", swapped(3)), "wide", "of the weight"),
    ("a bias at double scale", "int8-dynamic", tflite_constant("head.bias", times(2)), "head", "times 2"),
    ("a scale", "int8-dynamic", scale("head.weight", 1.05), "head", "scale"),
    ("ReLU for ReLU6", "int8-dynamic", tflite_operator("stem.0", ReLU), "stem", "RELU instead of"),
)


@pytest.mark.parametrize(
    ("precision", "edit", "layer", "cause"), [f[1:] for f in FAULTS], ids=[f"{f[0]}, {f[1]}" for f in FAULTS]
)
def test_a_fault_is_named_by_layer_and_cause(precision, edit, layer, cause, bundle, agent, tmp_path: Path) -> None:
    found = located(planted(bundle, tmp_path / "bad", "tflite", precision, edit), agent, precision)
    assert found.fault == "file"
    assert found.layer.startswith(layer)
    assert cause in found.cause
    broken = [line for line in found.lines if line.broken]
    assert broken[0].value.startswith(layer)
    limit = 0.0 if precision == "int16x8" else 1e-6
    assert all(line.anew is not None and line.anew.largest <= limit for line in broken)


def test_a_failed_verdict_of_int16x8_names_the_layer(bundle, agent, tmp_path: Path) -> None:
    edit = tflite_constant("wide.weight", swapped(3))
    bad = planted(bundle, tmp_path / "bad", "tflite", "int16x8", edit)
    target = shared_target(agent, "litert")
    report = locate_failures(bad, check_bundle(bad, targets=[target]), targets=[target])
    (verdict,) = report.verdicts
    assert not verdict.passed
    assert verdict.layer.startswith("wide")
    assert "of the weight" in verdict.cause


@pytest.mark.parametrize(
    ("precision", "wrong", "right"), [("int16x8", "rescale15", "rescale31"), ("int8-dynamic", "tflite", "xnnpack")]
)
def test_another_rule_is_recognised(precision, wrong, right, bundle, agent, monkeypatch) -> None:
    """The runtime is taken for one of another rule: that shows where the rules differ, and it is said whose it has."""
    monkeypatch.setattr("edgecnn.locate.locate.rule_of", lambda *_: RoundingRule(rule=wrong, exact=True))
    found = located(bundle, agent, precision)
    assert found.fault == "runtime"
    assert f"by the rule {right}, where litert is known for {wrong}" in found.cause


def test_a_scale_that_the_manifest_has_wrong_is_told(bundle, agent, tmp_path: Path) -> None:
    edit = tflite_constant("head.bias", lambda a: a + 0)
    planted(bundle, tmp_path / "bad", "tflite", "int16x8", lambda data: edit(data))
    path = tmp_path / "bad" / "manifest.json"
    manifest = json.loads(path.read_text())
    (params,) = manifest["artifacts"][0]["quantization"]["outputs"].values()
    params["scale"] *= 2
    path.write_text(json.dumps(manifest))
    found = located(load_bundle(tmp_path / "bad"), agent, "int16x8")
    assert found.fault == "input"
    assert "zero point 0 for output, its program" in found.cause


def test_shrink_refuses_what_it_cannot_make_small(bundle, agent, tmp_path: Path) -> None:
    edit = tflite_constant("wide.weight", swapped(3))
    bad = planted(bundle, tmp_path / "bad", "tflite", "int16x8", edit)
    with pytest.raises(UsageError, match=r"small.int16x8.tflite is not made small"):
        shrink(bad, shared_target(agent, "litert"), tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_the_program_of_int16x8_comes_back_as_it_was(bundle) -> None:
    artifact = bundle.artifact("tflite", "int16x8")
    program = bundle.program()
    assert (
        reexport_artifact(artifact, program, b"", version=bundle.manifest.versions["edgecnn"]).written.data
        == artifact.read()
    )
    assert encode_program(decode_program(encode_program(program))) == encode_program(program)


def test_a_bundle_without_that_program_says_so(bundle) -> None:
    artifact, program = bundle.artifact("tflite", "int16x8"), replace(bundle.program(), int16=None)
    with pytest.raises(EdgecnnError, match="holds no int16x8 program"):
        reexport_artifact(artifact, program, b"", version="0")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda scales: scales.pop(), "has no scale"),
        (lambda scales: scales.append(["other", 1.0]), "scales of 'other'"),
        (lambda scales: scales.append(list(scales[0])), "occurs twice"),
        (lambda scales: scales[-1].__setitem__(1, 0.0), "a scale of 0.0 cannot be used"),
        (lambda scales: scales[-1].__setitem__(1, 1e-30), "too small for the scales"),
    ],
    ids=["missing", "too many", "twice", "zero", "tiny"],
)
def test_a_program_with_other_scales_is_refused(change, why, bundle) -> None:
    arrays = dict(np.load(io.BytesIO(encode_program(bundle.program()))))
    text = json.loads(arrays["program"].tobytes())
    change(text["int16"]["scales"])
    arrays["program"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    with pytest.raises(BundleError) as caught:
        decode_program(encode_npz(list(arrays.items())))
    assert why in f"{caught.value.why}"


def test_int16_programs_of_constant_operands_come_back(tmp_path: Path) -> None:
    class Shifted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1) + 0.5

    x = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    graph = capture(Shifted().eval(), [torch.from_numpy(x[:1])])
    q = quantize_int16(graph, observe(graph, [[x]]))
    back = decode_program(encode_program(Program(graph=graph, int16=q))).int16
    assert back is not None
    assert {name: s.scale for name, s in back.activations.items()} == {n: s.scale for n, s in q.activations.items()}
