"""What sessions without the setting against saturation compute, beside the verdicts of those with it."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
import torch
from support.int8 import saturating
from support.shared_host import shared_target

import edgecnn
from edgecnn.bundle import decode_manifest
from edgecnn.cli.check_output import _footers
from edgecnn.errors import TargetError
from edgecnn.parity import plain_session
from edgecnn.parity.saturation_reason import saturates
from edgecnn.report.schema import check_schema

SETTINGS = {"onnxruntime": {"session.x64quantprecision": "1"}}


def bundle_of(folder, recipe: str = "int8", *, io: str = "float32") -> edgecnn.Bundle:
    module, x = saturating()
    options = {"precisions": ["fp32", "int8"], "recipe": recipe, "calibration": x, "io": io}
    return edgecnn.export_model(module.eval(), torch.zeros(1, 2, 8, 8), folder / "q", name="q", **options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> edgecnn.Bundle:
    return bundle_of(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def affected(monkeypatch) -> None:
    """This processor as one that saturates, whatever it is."""
    monkeypatch.setattr(plain_session, "saturates", lambda _features, _runtime: True)


def test_a_check_says_what_sessions_without_the_setting_compute(bundle, agent, here, affected) -> None:
    report = edgecnn.check_bundle(bundle, targets=here)
    assert report.passed
    (plain,) = report.plain_sessions
    spec = bundle.artifact("onnx", "int8").spec
    assert (plain.artifact, plain.target, plain.output) == ("q.int8.onnx", "onnxruntime@local", "output")
    assert (plain.session, plain.options["precision"]) == (SETTINGS["onnxruntime"], False)
    assert plain.layers == spec.quantization.saturating
    assert plain.samples == bundle.golden().samples
    assert any(note == plain.sentence() for note in report.notes)
    (verdict,) = [v for v in report.verdicts if v.artifact == "q.int8.onnx"]
    assert (verdict.lsb_max, verdict.options["precision"]) == (0, True)
    # The same numbers as those of a target with the option, and errors where the processor does saturate.
    off = edgecnn.check_bundle(bundle, targets=[shared_target(agent, "onnxruntime", precision=False)], locating=False)
    (judged,) = [v for v in off.verdicts if v.artifact == "q.int8.onnx"]
    measured = (judged.lsb_max, judged.lsb_mean, judged.top1_agreement)
    assert (plain.lsb_max, plain.lsb_mean, plain.top1_agreement) == measured
    assert (plain.lsb_max > 0) == saturates(agent.probe().features, "onnxruntime") == (not off.passed)
    assert off.plain_sessions == (), "a session without the setting is what was judged"
    setting = 'session.x64quantprecision = "1"'
    assert f"int8 on onnxruntime: judged with precision=on ({setting})" in _footers(report.verdicts)
    assert f"int8 on onnxruntime: judged with precision=off (without {setting})" in _footers(off.verdicts)
    jsonschema.validate(json.loads(json.dumps(report.as_json())), check_schema())


def test_sentences_name_the_setting_before_the_recipe(bundle, here, affected) -> None:
    (plain,) = edgecnn.check_bundle(bundle, targets=here).plain_sessions
    text = plain.sentence()
    named = [text.index(word) for word in ("session.x64quantprecision", "--recipe int8-uint8-weights", "int8-7bit")]
    assert named == sorted(named)
    assert "is the same on" in replace(plain, lsb_max=0.0, lsb_mean=0.0).sentence()


@pytest.mark.parametrize("recipe", ["int8-uint8-weights", "int8-7bit"])
@pytest.mark.parametrize("io", ["float32", "uint8"])
def test_recipes_that_need_no_setting(tmp_path, agent, here, affected, recipe: str, io: str) -> None:
    """Their ONNX files are exact without it too, on whatever this processor is."""
    bundle = bundle_of(tmp_path, recipe, io=io)
    onnx, tflite = (bundle.artifact(form, "int8").spec for form in ("onnx", "tflite"))
    assert (onnx.session, onnx.quantization.saturating) == ({}, ())
    assert bool(tflite.quantization.saturating) == (recipe == "int8-uint8-weights"), "TFLite files have int8 weights"
    targets = [*here, shared_target(agent, "onnxruntime", precision=False)]
    report = edgecnn.check_bundle(bundle, targets=targets)
    assert report.passed
    assert all(v.lsb_max == 0 for v in report.verdicts if v.precision == "int8")
    assert report.plain_sessions == ()


def test_processors_that_do_not_saturate_are_not_asked_twice(bundle, here, monkeypatch) -> None:
    monkeypatch.setattr(plain_session, "saturates", lambda _features, _runtime: False)
    assert edgecnn.check_bundle(bundle, targets=here).plain_sessions == ()


def test_a_second_run_that_fails_changes_no_verdict(bundle, here, affected, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TargetError("gone")

    monkeypatch.setattr("edgecnn.targets.hosts.reconnect.ReconnectingSession.open_again", fail)
    report = edgecnn.check_bundle(bundle, targets=here)
    assert report.passed
    assert [note for note in report.notes if "could not be run: gone" in note]


def test_the_manifest_has_the_setting_where_it_matters(bundle) -> None:
    assert {(a.format, a.precision): a.spec.session for a in bundle.artifacts if a.spec.session} == {
        ("onnx", "int8"): SETTINGS
    }
    manifest = json.loads((bundle.directory / "manifest.json").read_text())
    for artifact in manifest["artifacts"]:
        del artifact["session"]
    old = decode_manifest(json.dumps(manifest).encode())
    assert all(a.session == {} for a in old.artifacts), "a bundle of an earlier version is read"


def test_weights_are_uint8_where_pairs_can_saturate_and_nowhere_else(tmp_path) -> None:
    from onnx import load

    bundle = bundle_of(tmp_path, "int8-uint8-weights")
    plain = bundle_of(tmp_path / "plain")
    risky = plain.artifact("onnx", "int8").spec.quantization.saturating
    types = {t.name: t.data_type for t in load(bundle.artifact("onnx", "int8").path).graph.initializer}
    weights = {name: kind for name, kind in types.items() if ".weight" in name and name.endswith(".q")}
    assert {name for name, kind in weights.items() if kind == 2} == {
        name for name in weights if any(name.startswith(f"{layer}.") for layer in risky)
    }
    same = [b.artifact("tflite", "int8").read() for b in (plain, bundle)]
    assert same[0] == same[1], "TFLite files do not change"
    assert any("in .onnx files only" in note for note in bundle.artifact("tflite", "int8").spec.notes)
    for name, array in plain.golden().outputs["int8"].items():
        np.testing.assert_array_equal(array, bundle.golden().outputs["int8"][name])
    again = bundle.program().quantized
    assert again.uint8_weights
    assert not plain.program().quantized.uint8_weights
