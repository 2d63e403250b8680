"""When a float artifact fails where a runtime is known to compute less exactly, the reason names it."""

from __future__ import annotations

from dataclasses import replace

from edgecnn.bundle import Artifact
from edgecnn.errors import TargetError
from edgecnn.parity.verdict import Verdict
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.target import Target

MOST = 0.01
"""Share of the range that such errors can come to, where values are large beside their range; what is further off has
another cause."""
_METRICS = ("relative_error", "own_error")


def deviation_reason(verdict: Verdict, artifact: Artifact, target: Target) -> Verdict:
    """The verdict, with its reason completed where a known deviation of the runtime can have made it fail.

    It still fails: nobody but the user can tell whether that much matters, and `--limit` says that it does not.
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
        return ""  # the verdict stands without it
