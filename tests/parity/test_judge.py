"""Three outcomes: what passes, what fails, and what so few samples leave undecided."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from support.verdicts import judged, measured

from edgecnn.parity.limits import Limits


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
    assert f"about {float(f'{verdict.samples_needed:.2g}'):,.0f} such samples would decide" in verdict.reason
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
