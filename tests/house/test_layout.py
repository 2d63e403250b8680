"""Tests stand where a newcomer looks for them: tests/README.md."""

from __future__ import annotations

import pytest
from support.paths import ROOT, TESTS

LONGEST = 500
"""Lines of a file of tests."""
OWN = {"cases", "house", "support"}
"""Folders of the tests that mirror no package."""
ELSEWHERE = {
    "capture/converters": "rows of tests/cases, which tests/export/test_cases.py runs",
    "checking": "tests/cli/test_check.py, and tests/locate",
    "program": "tests/bundle/test_program.py, and tests/golden",
}
"""Packages without a folder of their own, and where their tests are."""

needs_checkout = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the checkout, not a wheel")


def packages() -> set[str]:
    """The packages of the sources by their paths below ``edgecnn``; ``export`` and ``targets`` are linked into it."""
    found = set()
    for top, below in (("edgecnn", ""), ("export", "export"), ("targets", "targets")):
        for file in (ROOT / top).rglob("__init__.py"):
            path = file.parent.relative_to(ROOT / top)
            if top != "edgecnn" or path.parts[:1] not in (("export",), ("targets",)):
                found.add("/".join([*filter(None, [below]), *path.parts]))
    return found - {""}


def folders() -> set[str]:
    """The folders that hold tests, by their paths below ``tests``."""
    paths = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    return {path.as_posix() for path in paths if path.parts[0] not in OWN}


@needs_checkout
def test_every_package_has_a_folder_of_tests() -> None:
    assert packages() - folders() == set(ELSEWHERE)


@needs_checkout
def test_every_folder_of_tests_has_a_package() -> None:
    assert folders() <= packages()


def test_no_file_is_too_long() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in TESTS.rglob("*.py")}
    assert lengths
    assert {str(file): lines for file, lines in lengths.items() if lines > LONGEST} == {}
