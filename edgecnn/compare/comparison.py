"""The result of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecnn.parity.verdict import Unjudged
from edgecnn.targets.printable import printable

_LONGEST = 60
"""The most characters of a name in messages: converters join the names of all operators that they fuse."""


def shown(name: str) -> str:
    """A name from a file, safe to print and of bounded length."""
    text = printable(name).replace("\n", " ") or "(no name)"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}...{text[-17:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One output of B compared with the corresponding output of A, over all samples.

    Attributes:
        output: Its name in A.
        output_b: Its name in B.
        target_a: Where A ran.
        target_b: Where B ran.
        version_a: The version of A's runtime.
        version_b: The version of B's runtime.
        samples: How many samples.
        metrics: The metrics by name; None where one does not apply. See `edgecnn.compare.metric_limits.METRICS`.
        worst: The samples with the largest differences: the difference and the sample's place, the worst first.
        passed: Whether all limits hold; None where there are none.
        reason: Why not; empty where it passed or nothing was judged.
    """

    output: str
    output_b: str
    target_a: str
    target_b: str
    version_a: str
    version_b: str
    samples: int
    metrics: Mapping[str, float | None]
    worst: tuple[tuple[float, int], ...]
    passed: bool | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareReport:
    """All comparisons, by targets and outputs.

    Attributes:
        a: A's path.
        b: B's path.
        sha256_a: The SHA-256 of A's bytes.
        sha256_b: The SHA-256 of B's bytes.
        samples_from: The samples that both were fed, in words.
        reconciled: How inputs and outputs were reconciled, in words.
        limits: The demanded limits, by metric.
        comparisons: The comparisons that could be made.
        unjudged: Targets that failed.
        notes: What the user should know.
    """

    a: str
    b: str
    sha256_a: str
    sha256_b: str
    samples_from: str
    reconciled: tuple[str, ...]
    limits: Mapping[str, float]
    comparisons: tuple[Comparison, ...]
    unjudged: tuple[Unjudged, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool | None:
        """Whether all could be compared and every limit holds; None where there are no limits and nothing failed."""
        verdicts = [c.passed for c in self.comparisons]
        if self.unjudged or not verdicts or False in verdicts:
            return False
        return True if self.limits else None

    @property
    def exit_code(self) -> int:
        """0 where no limit is broken, 1 where one is, 2 where none is but a target failed."""
        if any(c.passed is False for c in self.comparisons):
            return 1
        return 2 if self.unjudged or not self.comparisons else 0

    def as_json(self) -> dict[str, Any]:
        """The report as ``--json`` prints it."""
        return {
            "schema": 1,
            "passed": self.passed,
            "a": {"file": self.a, "sha256": self.sha256_a},
            "b": {"file": self.b, "sha256": self.sha256_b},
            "samples_from": self.samples_from,
            "reconciled": list(self.reconciled),
            "limits": dict(self.limits),
            "comparisons": [_plain(c) for c in self.comparisons],
            "unjudged": [u.as_json() for u in self.unjudged],
            "notes": list(self.notes),
        }


def _plain(one: Comparison) -> dict[str, Any]:
    plain = {name: getattr(one, name) for name in one.__dataclass_fields__}
    worst = [{"sample": place, "max_abs_error": apart} for apart, place in one.worst]
    return {**plain, "metrics": dict(one.metrics), "worst": worst}
