"""Verdicts on answers that are right and wrong by so many samples."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from edgecnn.parity.judge import RunContext, judge
from edgecnn.parity.measured import Measured
from edgecnn.targets.runtimes.rounding_rules import HALF_EVEN

PLACE = RunContext(target="litert@local", runtime="litert", version="1", options={}, rounding=HALF_EVEN)


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
