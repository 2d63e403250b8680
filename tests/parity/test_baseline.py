"""Baselines: read as they were written, compared by the answers in them, refused where they are none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.verdicts import judged, measured

from edgecnn.errors import DataError, UsageError
from edgecnn.parity.baseline import Baseline, against_baseline, baseline_of, load_baseline, save_baseline
from edgecnn.parity.baseline_samples import BaselineSamples
from edgecnn.parity.measured import Measured
from edgecnn.parity.verdict import CheckReport


def report(found: Measured, precision: str = "int8", digest: str = "d") -> CheckReport:
    verdict = judged(found, precision)
    a = found.answers
    kept = BaselineSamples(
        digest=digest, extent=found.difference.scale, got=a.got, expected=a.expected, labels=a.labels
    )
    return CheckReport((verdict,), baseline_samples={verdict.key: kept})


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
    with pytest.raises(UsageError, match="no entry for anything that was checked"):
        against_baseline(report(measured(100, 0), "fp16"), before)
    both = report(measured(100, 0))
    second = report(measured(100, 0), "fp16")
    joined = CheckReport(
        (*both.verdicts, *second.verdicts), baseline_samples={**both.baseline_samples, **second.baseline_samples}
    )
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
