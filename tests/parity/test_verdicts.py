"""Limits, three outcomes, and baselines: what a gate lets through, what it stops, and what it does not know."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import edgecnn
from edgecnn.cli import cli
from edgecnn.data.sources import load_dataset
from edgecnn.errors import DataError, UsageError
from edgecnn.parity.baseline import Baseline, against_baseline, baseline_of, load_baseline, save_baseline
from edgecnn.parity.baseline_samples import Kept
from edgecnn.parity.judge import Place, judge
from edgecnn.parity.limits import METRICS, Limits
from edgecnn.parity.measured import Measured
from edgecnn.parity.scenes import SceneScores
from edgecnn.parity.verdict import CheckReport
from edgecnn.targets.runtimes.rounding import HALF_EVEN
from edgecnn.training.tasks import task_of

PLACE = Place(target="litert@local", runtime="litert", version="1", options={}, rounding=HALF_EVEN)


def artifact(precision: str) -> SimpleNamespace:
    return SimpleNamespace(path=SimpleNamespace(name=f"net.{precision}.tflite"), precision=precision, spec=SPEC)


SPEC = SimpleNamespace(quantization=None)


def answers(right: list[bool], classes: int = 4) -> np.ndarray:
    """Scores of which the best is class 0 where that is right, else class 1."""
    return np.eye(classes, dtype=np.float32)[np.where(right, 0, 1)]


def measured(samples: int, lost: int, gained: int = 0, *, labelled: bool = True) -> Measured:
    found = Measured(scores=True)
    reference = np.arange(samples) >= gained
    output = np.ones(samples, bool)
    output[gained : gained + lost] = False
    labels = np.zeros(samples, np.int64) if labelled else None
    found.add(answers(output), answers(reference), labels)
    return found


def judged(found: Measured, precision: str = "int8", **given):
    return judge(
        artifact(precision), PLACE, samples_from="data", reference="torch", output="output", found=found, **given
    )


# --- limits -----------------------------------------------------------------------------------------------------------


def test_limits_of_the_command_line_and_of_a_file() -> None:
    limits = Limits.parse(["accuracy_drop=0.02", "int8:lsb_mean=0.7"])
    assert not limits.shared
    assert limits.given("fp32", "accuracy_drop") == limits.given("int8", "accuracy_drop") == 0.02
    assert (limits.given("int8", "lsb_mean"), limits.given("int16x8", "lsb_mean")) == (0.7, None)
    assert limits.metrics("int8") == ("lsb_mean", "accuracy_drop")
    file = Limits.of({"accuracy_drop": 0.05, "int8": {"accuracy_drop": 0.03}}, where="edgecnn.toml")
    assert (file.given("int8", "accuracy_drop"), file.given("fp16", "accuracy_drop")) == (0.03, 0.05)
    both = file.for_all().updated(limits)
    assert both.shared == {("int8", "accuracy_drop")}
    assert (both.given("int8", "accuracy_drop"), both.given("fp16", "accuracy_drop")) == (0.03, 0.02)
    assert both.unmeasured([("int8", "accuracy_drop")]) == (("int8", "lsb_mean"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acuracy_drop=0.02", "accuracy_drop"),
        ("int9:lsb_mean=1", "no precision 'int9'"),
        ("accuracy_drop", "is not METRIC=NUMBER"),
        ("accuracy_drop=two", "is not METRIC=NUMBER"),
        ("accuracy_drop=2", "a share"),
        ("accuracy_drop=-0.1", "no limit"),
        ("lsb_max=nan", "no limit"),
        ("rmse=inf", "no limit"),
    ],
)
def test_a_wrong_limit_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        _ = str(Limits.parse([text]))
    # what is not in the message is in its hint


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"lsb": 1}, "no metric"),
        ({"int8": {"lsb_mean": "much"}}, "not a number"),
        ({"accuracy_drop": True}, "not a number"),
        ({"int7": {"lsb_mean": 1}}, "no precision"),
    ],
)
def test_a_wrong_limit_in_a_file_names_the_file(table, said: str) -> None:
    with pytest.raises(UsageError, match=said) as stop:
        Limits.of(table, where="edgecnn.toml")
    assert stop.value.where == "edgecnn.toml"


def test_twice_and_undecided() -> None:
    with pytest.raises(UsageError, match="twice"):
        Limits.parse(["rmse=1", "rmse=2"])
    with pytest.raises(UsageError, match="perhaps"):
        Limits(undecided="perhaps")


def test_a_limit_switches_no_default_off() -> None:
    found = measured(50, 0)
    found.difference.max_abs = 0.5
    verdict = judged(found, "fp32", limits=Limits.parse(["rmse=1"]))
    assert (verdict.metric, verdict.outcome) == ("relative_error", "failed")
    assert verdict.limits == {"relative_error": 1e-5, "rmse": 1.0}
    relaxed = judged(found, "fp32", limits=Limits.parse(["fp32:relative_error=0.6"]))
    assert (relaxed.outcome, relaxed.limit) == ("passed", 0.6)


def test_limits_that_are_the_least_that_passes() -> None:
    found = Measured()
    found.add(np.array([[1.0, 2.001]]), np.array([[1.0, 2.0]]))
    for name in ("snr_db", "psnr_db", "cosine"):
        assert METRICS[name].least
    good, bad = (judged(found, limits=Limits.parse([f"snr_db={db}"])) for db in (60, 70))
    assert (good.outcome, bad.outcome, bad.metric) == ("passed", "failed", "snr_db")
    exact = Measured()
    exact.add(np.ones((1, 3)), np.ones((1, 3)))
    assert judged(exact, limits=Limits.parse(["snr_db=200"])).passed
    assert judged(exact).snr_db is None


def test_nan_fails_every_limit() -> None:
    found = Measured()
    found.add(np.array([[np.nan, 1.0]]), np.ones((1, 2)))
    loose = Limits.parse(["rmse=9", "cosine=0", "snr_db=-200"], undecided="pass")
    verdict = judged(found, limits=loose)
    assert (verdict.passed, verdict.outcome, verdict.nan_count) == (False, "failed", 1)
    assert "NaN" in verdict.reason


# --- three outcomes ---------------------------------------------------------------------------------------------------


def test_few_samples_resolve_nothing_many_do() -> None:
    few, many = judged(measured(200, 1)), judged(measured(20_000, 100))
    assert (few.drop, many.drop) == (0.005, 0.005)
    assert (few.outcome, many.outcome) == ("undecided", "passed")
    assert few.passed
    assert few.samples_needed > 200
    assert "would" in few.reason
    assert (many.reason, many.samples_needed) == ("", None)


def test_a_large_drop_is_seen_on_few_samples() -> None:
    assert judged(measured(40, 8)).outcome == "failed"
    small = judged(measured(20, 3))  # 15 points, and too few samples to be sure: that is no pass
    assert (small.metric, small.outcome, small.passed) == ("accuracy_drop", "undecided", False)
    assert "above the limit" in small.reason


@pytest.mark.parametrize(
    ("undecided", "passed"), [("estimate", (True, False)), ("fail", (False, False)), ("pass", (True, True))]
)
def test_the_user_says_what_undecided_counts_for(undecided: str, passed: tuple[bool, bool]) -> None:
    limits = Limits(undecided=undecided)
    found = [judged(measured(n, 1), limits=limits) for n in (200, 20)]
    assert {v.outcome for v in found} == {"undecided"}
    assert tuple(v.passed for v in found) == passed
    assert not judged(measured(40, 8), limits=limits).passed
    assert judged(measured(20_000, 100), limits=limits).passed


def test_the_pairs_count_and_not_the_accuracies() -> None:
    """Two artifacts lose 8 of 1,000 samples net: with 8 changes that is certain to be little, with 500 it is not."""
    calm, wild = judged(measured(1000, 8)), judged(measured(1000, 254, 246))
    assert calm.drop == wild.drop
    assert (calm.lost, calm.gained, wild.lost, wild.gained) == (8, 0, 254, 246)
    assert wild.drop_high - wild.drop_low > 4 * (calm.drop_high - calm.drop_low)
    assert calm.mcnemar_p == pytest.approx(2 / 2**8)
    assert wild.mcnemar_p > 0.5


def test_undecided_says_what_would_decide() -> None:
    verdict = judged(measured(360, 0), limits=Limits.parse(["accuracy_drop=0.001"], undecided="fail"))
    assert (verdict.outcome, verdict.passed) == ("undecided", False)
    assert f"about {float(f'{verdict.samples_needed:.2g}'):,.0f} samples like these would" in verdict.reason
    assert "--undecided fail" in verdict.reason


def test_false_alarms_are_as_rare_as_promised() -> None:
    """A true loss of just the limit is called a failure in 5 % of checks, and passed in 5 %."""
    draws = np.random.default_rng(8).multinomial(1500, [0.015, 0.005, 0.98], 400)
    outcomes = [judged(measured(1500, int(a), int(b))).outcome for a, b, _ in draws[:120]]
    assert outcomes.count("failed") <= 12
    assert outcomes.count("passed") <= 12


def test_without_labels_the_share_of_other_classes_counts() -> None:
    verdict = judged(measured(100, 20, labelled=False))
    assert (verdict.metric, verdict.outcome, verdict.value) == ("top1_disagreement", "failed", 0.2)
    assert verdict.accuracy is None
    assert judged(measured(100, 3, labelled=False)).outcome == "undecided"
    assert judged(measured(1000, 10, labelled=False)).outcome == "passed"


def test_limits_on_accuracy_are_not_held_to_golden_inputs() -> None:
    limits = Limits.parse(["accuracy_drop=0.001"])
    golden = judged(measured(32, 1), "fp32", limits=limits, on_data=False)
    assert "accuracy_drop" not in golden.limits
    assert "accuracy_drop" in judged(measured(32, 1), "fp32", limits=limits).limits


def test_worst_samples_and_confusion_are_plain_json() -> None:
    verdict = judged(measured(10, 2, 1))
    assert verdict.confusion == ((0, 0, 8), (0, 1, 2))
    assert [(w.sample, w.expected, w.got, w.label) for w in verdict.worst_samples] == [
        (0, 1, 0, 0),
        (1, 0, 1, 0),
        (2, 0, 1, 0),
    ]
    assert json.loads(json.dumps(asdict(verdict)))["worst_samples"][1]["margin"] == 1.0


# --- baselines --------------------------------------------------------------------------------------------------------


def report(found: Measured, precision: str = "int8", digest: str = "d") -> CheckReport:
    verdict = judged(found, precision)
    a = found.answers
    kept = Kept(digest=digest, extent=found.difference.scale, got=a.got, expected=a.expected, labels=a.labels)
    return CheckReport((verdict,), kept={verdict.key: kept})


def noisy(scale: float) -> Measured:
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((200, 4))
    found = Measured(scores=True)
    found.add(reference + scale * rng.standard_normal((200, 4)), reference, reference.argmax(1))
    return found


def test_a_baseline_is_read_as_it_was_written(tmp_path) -> None:
    before = report(noisy(0.01))
    save_baseline(before, tmp_path / "b.json")
    loaded = load_baseline(tmp_path / "b.json")
    assert loaded.entries == baseline_of(before).entries
    assert against_baseline(before, loaded).verdicts == before.verdicts
    assert (tmp_path / "b.json").stat().st_size < 1500
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]


def test_worse_metrics_fail_and_float_noise_does_not() -> None:
    before = baseline_of(report(noisy(0.01)))
    worse = against_baseline(report(noisy(0.011)), before)
    assert not worse.passed
    assert worse.exit_code == 1
    assert worse.verdicts[0].worse == ("max_abs_error", "mean_abs_error", "rmse")
    assert worse.verdicts[0].metric == "max_abs_error"
    assert "in the baseline" in worse.verdicts[0].reason
    assert against_baseline(report(noisy(0.009)), before).passed
    assert against_baseline(report(noisy(0.01 + 1e-9)), before).passed


def test_accuracy_is_compared_with_the_baselines_own_answers() -> None:
    old = report(measured(1000, 0))
    entry = replace_metrics(baseline_of(old))
    few = against_baseline(report(measured(1000, 3)), entry).verdicts[0]
    many = against_baseline(report(measured(1000, 9)), entry).verdicts[0]
    assert few.worse == ()
    assert many.worse == ("accuracy", "top1_agreement")
    assert "9 samples lost and 0 gained" in many.reason


def replace_metrics(baseline: Baseline) -> Baseline:
    """Without the metrics that are compared as they are."""
    import msgspec

    return Baseline({k: msgspec.structs.replace(e, metrics={}) for k, e in baseline.entries.items()})


def test_other_samples_cannot_be_judged_and_other_artifacts_are_noted() -> None:
    before = baseline_of(report(measured(100, 0)))
    other = against_baseline(report(measured(100, 0), digest="e"), before)
    assert (other.exit_code, len(other.unjudged)) == (2, 1)
    assert "other samples" in other.unjudged[0].error.message
    with pytest.raises(UsageError, match="nothing that was checked"):
        against_baseline(report(measured(100, 0), "fp16"), before)
    both = report(measured(100, 0))
    second = report(measured(100, 0), "fp16")
    joined = CheckReport((*both.verdicts, *second.verdicts), kept={**both.kept, **second.kept})
    assert any("not in the baseline" in n for n in against_baseline(joined, before).notes)
    assert any("not checked now" in n for n in against_baseline(both, baseline_of(joined)).notes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "entries": [{}]}', "\xff"])
def test_what_is_no_baseline_is_refused(text: str, tmp_path) -> None:
    file = tmp_path / "b.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="cannot be read"):
        load_baseline(file)
    with pytest.raises(DataError, match="cannot read"):
        load_baseline(tmp_path / "none.json")


def test_damaged_answers_are_refused(tmp_path) -> None:
    now = report(measured(100, 0))
    save_baseline(now, tmp_path / "b.json")
    content = json.loads((tmp_path / "b.json").read_text())
    for answers_ in ("!", "AAAA", content["entries"][0]["answers"][:-8] + "AAAAAAA="):
        content["entries"][0]["answers"] = answers_
        (tmp_path / "b.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match="answers"):
            against_baseline(now, load_baseline(tmp_path / "b.json"))


def test_a_baseline_that_cannot_be_written_leaves_nothing(tmp_path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        save_baseline(report(measured(10, 0)), tmp_path / "no" / "b.json")
    assert list(tmp_path.iterdir()) == []


# --- scenes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "name"), [((1, 11, 4, 4), "F1"), ((1, 11, 32, 32), "mIoU")])
def test_scores_of_scenes_are_those_of_training(shape, name: str) -> None:
    data = load_dataset("scenes", input_shape=(1, 32, 32)).take(range(12))
    rng = np.random.default_rng(1)
    task = task_of(data, shape)
    truth = np.eye(11)[task.targets(data, np.arange(12))].transpose(0, 3, 1, 2) * 3
    reference = truth + rng.standard_normal(truth.shape)
    output = truth + 2 * rng.standard_normal(truth.shape)
    scores = SceneScores(task, data)
    for part in (slice(0, 5), slice(5, 12)):
        scores.add(output[part], reference[part], np.arange(12)[part])
    for logits, value in ((output, scores.value()), (reference, scores.reference_value())):
        scorer = task.scorer()
        scorer.add(logits, data, np.arange(12))
        assert value == pytest.approx(scorer.scores()[name])
    drop, error = scores.drop()
    assert drop.value == pytest.approx(scores.reference_value() - scores.value())
    assert drop.low < drop.value < drop.high
    assert error > 0
    found = Measured(scene=scores)
    found.difference.add(output, reference)
    verdict = judged(found)
    assert (verdict.metric, verdict.score_name, verdict.drop) == ("score_drop", name, drop.value)


# --- the whole --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> edgecnn.Bundle:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)).eval()
    data = load_dataset("digits", input_shape=(1, 8, 8)).batch(range(64))
    return edgecnn.export_model(
        module,
        torch.zeros(1, 1, 8, 8),
        tmp_path_factory.mktemp("verdicts") / "net",
        name="net",
        formats=["onnx"],
        precisions=["fp32", "int8"],
        calibration=data,
    )


def test_the_command_with_limits_and_a_baseline(bundle, tmp_path, run) -> None:
    data, saved = ("--data", "digits"), tmp_path / "b.json"
    out, _ = run("check", bundle.directory, *data, "--save-baseline", saved)
    assert saved.exists()
    assert all(len(line) <= 100 for line in out.splitlines() if not line.startswith(("undecided", "failed")))
    assert "limits: fp32 relative_error <= 1e-05" in out
    limits = ("--limit", "int8:rmse=1e-9", "--limit", "fp32:accuracy_drop=0.0001", "--undecided", "fail", "--json", "-")
    told = run("check", bundle.directory, *data, "--baseline", saved, *limits, "--json", "-", code=1).json
    assert told["schema"] == 2
    failed = {(v["precision"], v["metric"], v["outcome"]) for v in told["verdicts"] if not v["passed"]}
    assert failed == {("int8", "rmse", "failed"), ("fp32", "accuracy_drop", "undecided")}
    assert all(v["worse"] == [] for v in told["verdicts"])
    spoiled = json.loads(saved.read_text())
    for entry in spoiled["entries"]:
        entry["metrics"]["rmse"] = 0.0
    saved.write_text(json.dumps(spoiled))
    out, err = run("check", bundle.directory, "--baseline", saved, "--save-baseline", saved, code=1)
    assert "in the baseline 0" in out
    assert "worst samples: no. " in out
    assert "not written" in err
    assert json.loads(saved.read_text()) == spoiled


def test_a_limit_that_nothing_is_held_to_is_no_pass(bundle, run) -> None:
    out, err = run("check", bundle.directory, "--limit", "accuracy_drop=0.01", code=2)
    assert "the limit accuracy_drop was held to nothing" in err
    assert "--data" in err
    assert "incomplete" in out
    _, err = run("check", bundle.directory, "--limit", "fp16:rmse=1", code=2)
    assert "the bundle has fp32, int8" in err
    table = Limits.of({"accuracy_drop": 0.01, "fp16": {"rmse": 1}})
    with pytest.raises(UsageError, match="the limit fp16:rmse is for nothing"):
        edgecnn.check_bundle(bundle, limits=table)
    lenient = edgecnn.check_bundle(bundle, limits=table.for_all())
    assert lenient.passed
    assert lenient.idle == (("", "accuracy_drop"), ("fp16", "rmse"))


def test_golden_vectors_alone_are_enough(bundle, tmp_path) -> None:
    """A bundle is checked on another machine from what is in its folder: no torch, no data."""
    copy = edgecnn.load_bundle(shutil.copytree(bundle.directory, tmp_path / "there"))
    assert {p.name for p in copy.directory.iterdir()} >= {"golden.npz", "manifest.json"}
    here, there = edgecnn.check_bundle(bundle), edgecnn.check_bundle(copy)
    assert there.passed
    assert here.verdicts == there.verdicts
    assert {v.reference for v in there.verdicts} == {"torch"}


def test_detectors_are_judged_by_f1(tmp_path) -> None:
    torch.manual_seed(0)
    data = load_dataset("scenes", input_shape=(1, 32, 32)).take(range(6))
    module = nn.Conv2d(1, 11, 8, 8).eval()
    bundle = edgecnn.export_model(module, torch.zeros(1, 1, 32, 32), tmp_path / "net", formats=["onnx"])
    report = edgecnn.check_bundle(bundle, data=data, reference=lambda x: [torch_says(module, x[0])])
    assert [(v.score_name, v.score == v.reference_score) for v in report.verdicts] == [("", True), ("F1", True)]
    assert report.kept[report.verdicts[1].key].counts.shape == (6, 3)
    again = against_baseline(report, baseline_of(report))
    assert again.verdicts == report.verdicts


def torch_says(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


def test_help_names_the_choices() -> None:
    told = CliRunner().invoke(cli, ["check", "-h"]).output
    for word in ("--limit", "--undecided", "--baseline", "--save-baseline", "estimate"):
        assert word in told
