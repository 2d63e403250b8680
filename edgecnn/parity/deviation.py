"""Known inaccuracies of a runtime, added to the reason of a float verdict that they may have caused."""

from __future__ import annotations

from dataclasses import replace

from edgecnn.bundle import Artifact
from edgecnn.errors import TargetError
from edgecnn.parity.verdict import Verdict
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.target import Target

MOST = 0.01
"""Largest error that known deviations cause, as a share of the range, where values are large relative to their range.
Larger errors have another cause."""
_METRICS = ("relative_error", "own_error")


def deviation_reason(verdict: Verdict, artifact: Artifact, target: Target) -> Verdict:
    """Add the known deviation of the runtime that may have caused a failure to the verdict's reason.

    The verdict still fails: only the user can decide whether the error matters, and can accept it with `--limit`.
    """
    row = RUNTIMES[target.runtime]
    if verdict.passed or verdict.metric not in _METRICS or not row.deviations:
        return verdict
    found = row.deviation(_machine(target), verdict.options, artifact.operators)
    if found is None or not verdict.value <= MOST:
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {found.why}: try {found.hint}")


def _machine(target: Target) -> str:
    try:
        with target.host.start(target.environment, time_limit=target.time_limit) as connection:
            return connection.hello().wheel_machine
    except TargetError:
        return ""  # the verdict is valid without it
