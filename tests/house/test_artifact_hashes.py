"""Exported files are those of the list of hashes, byte for byte.

A part of the list, so that it takes seconds; ``PYTHONPATH=tests python -m support.artifact_hashes`` compares the whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from cases import CASES, Case
from support.artifact_hashes import LIST, case_hashes, comparable, differences, listed_of, zoo_hashes

STEP = 60
"""Every so many cases, one is exported."""
MODELS = ("conv_pool", "lenet5")
"""The models of the zoo that are exported fastest."""
ADVICE = """exported files have changed: {names}
If that was meant, say in the changelog what changed for users, and make the list again: make hashes"""


@pytest.fixture(scope="module")
def listed() -> Any:
    return json.loads(LIST.read_text())


def check(subject: str, found: Mapping[str, str], listed: Any) -> None:
    expected = listed_of(subject, listed["sha256"])
    assert any(comparable(key, listed["machine"]) for key in expected), f"{subject} is not in the list: make hashes"
    differing = differences(found, expected, listed["machine"])
    assert not differing, ADVICE.format(names=", ".join(differing))


@pytest.mark.parametrize("case", CASES[::STEP], ids=lambda case: case.name)
def test_files_of_a_case(case: Case, listed) -> None:
    check(f"case:{case.name}", case_hashes(case), listed)


@pytest.mark.parametrize("name", MODELS)
def test_files_of_a_model(name: str, listed) -> None:
    check(f"zoo:{name}", zoo_hashes(name), listed)


def test_every_case_is_in_the_list_once(listed) -> None:
    """With what the keys of its files begin with; else a new case would not be compared."""
    subjects = {key.rsplit(".", 2)[0] for key in listed["sha256"] if key.startswith("case:")}
    assert subjects == {f"case:{case.name}" for case in CASES}, "make hashes"


def test_a_changed_file_is_found(listed) -> None:
    key = "case:relu.onnx.fp32@float32"
    expected = listed_of("case:relu", listed["sha256"])
    assert differences(expected | {key: "0" * 64}, expected, listed["machine"]) == [key]
    assert differences({}, {key: expected[key]}, listed["machine"]) == [key]
