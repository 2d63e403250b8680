"""Which rows of the operator table int8 refuses, and with which words. All others are exact, or within one step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from cases.base import Case

DIVISION = "division by a computed value"
ROOT = "square roots have no int8 kernel"
RECIPROCAL_ROOT = "reciprocal roots grow"
POWER = "powers have no int8 kernel"

REFUSED: tuple[tuple[str, str], ...] = (
    (r"div", DIVISION),
    (r"activation Softsign\(\)", DIVISION),
    (r"arithmetic (x \*\* -1|reciprocal|1 / x|3 / x)", DIVISION),
    (r"reduction softmax by hand", DIVISION),
    (r"lp pool (2|1d).*", ROOT),
    (r"lp pool 3 of positives", POWER),
    (r"arithmetic (sqrt|x \*\* 0\.5)", ROOT),
    (r"reduction (std|norm|normalize|normalize features)", ROOT),
    (r"standardized by hand", ROOT),
    (r"arithmetic (rsqrt|x \*\* -0\.5)", RECIPROCAL_ROOT),
    (r"(instance norm|group norm|layer norm|rms norm)(?! running).*", RECIPROCAL_ROOT),
    (r"net convnext block", RECIPROCAL_ROOT),
    (r"arithmetic x \*\* 1\.7", POWER),
    (r"arithmetic sign", "signs have no int8 kernel"),
    (r"argmax .*|scores and argmax|max with indices", "argmax gives no values to quantize"),
)


def with_refusals(cases: Iterable[Case]) -> Iterable[Case]:
    """The cases, those that int8 refuses told so."""
    for case in cases:
        reason = next((reason for pattern, reason in REFUSED if re.fullmatch(pattern, case.name)), "")
        yield replace(case, int8=reason)
