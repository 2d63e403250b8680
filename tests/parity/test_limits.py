"""Limits of the command line and of a file, and defaults that no limit switches off."""

from __future__ import annotations

import numpy as np
import pytest
from support.verdicts import judged, measured

from edgecnn.errors import UsageError
from edgecnn.parity.limits import METRICS, Limits
from edgecnn.parity.measured import Measured


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
        ("accuracy_drop=-0.1", "not a valid limit"),
        ("lsb_max=nan", "not a valid limit"),
        ("rmse=inf", "not a valid limit"),
    ],
)
def test_a_wrong_limit_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        _ = str(Limits.parse([text]))


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
