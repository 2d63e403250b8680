"""Verdicts and outcomes as the JSON that `edgecnn.report.schema` describes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgecnn.parity.verdict import Verdict
from edgecnn.report.schema import WHEN_LOCATED


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict; layer and cause are there only where they are known."""
    return without_unknown(asdict(verdict))


def without_unknown(value: dict[str, Any]) -> dict[str, Any]:
    """The same without the keys that are there only where something is known, where nothing is."""
    return {key: v for key, v in value.items() if v or key not in WHEN_LOCATED}
