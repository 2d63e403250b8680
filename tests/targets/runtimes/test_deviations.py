"""A failure that a known deviation of a runtime explains says so; others do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from edgecnn.parity import deviation
from edgecnn.parity.deviation import MOST, deviation_reason
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.target import Target

TFLITE_RUNTIME = RUNTIMES["tflite-runtime"]
(SIGMOID,) = TFLITE_RUNTIME.deviations


@dataclass(frozen=True)
class Failed:
    """As much of a verdict as its reason rests on."""

    passed: bool = False
    metric: str = "relative_error"
    value: float = 2e-5
    options: Any = None
    reason: str = "too far off"


@dataclass(frozen=True)
class File:
    operators: Any


@pytest.mark.parametrize(
    ("changed", "operators", "runtime", "machine", "told"),
    [
        ({}, {"LOGISTIC": 1}, "tflite-runtime", "armv7l", True),
        ({"metric": "own_error"}, {"LOGISTIC": 1}, "tflite-runtime", "armv7l", True),
        ({}, {"CONV_2D": 1, "TANH": 2}, "tflite-runtime", "armv7l", True),
        ({}, {"CONV_2D": 1}, "tflite-runtime", "armv7l", False),
        ({}, {"LOGISTIC": 1}, "tflite-runtime", "aarch64", False),
        ({}, {"LOGISTIC": 1}, "litert", "armv7l", False),
        ({"options": {"reference_kernels": True}}, {"LOGISTIC": 1}, "tflite-runtime", "armv7l", False),
        ({"passed": True}, {"LOGISTIC": 1}, "tflite-runtime", "armv7l", False),
        ({"metric": "lsb_max"}, {"LOGISTIC": 1}, "tflite-runtime", "armv7l", False),
        ({"value": 2 * MOST}, {"LOGISTIC": 1}, "tflite-runtime", "armv7l", False),
        ({"value": float("nan")}, {"LOGISTIC": 1}, "tflite-runtime", "armv7l", False),
    ],
)
def test_what_is_explained(monkeypatch, changed, operators, runtime, machine, told) -> None:
    monkeypatch.setattr(deviation, "_machine", lambda _: machine)
    verdict = replace(Failed(options={"reference_kernels": False}), **changed)
    target = Target(runtime=runtime, host=LocalHost(), name=f"{runtime}@x")
    found: Any = deviation_reason(verdict, File(operators), target)  # type: ignore[arg-type]
    assert (SIGMOID.why in found.reason) is told
    assert replace(found, reason="") == replace(verdict, reason="")


def test_options_that_are_not_stated_are_the_defaults() -> None:
    assert TFLITE_RUNTIME.deviation("armv7l", {}, ["LOGISTIC", "CONV_2D"]) is SIGMOID
