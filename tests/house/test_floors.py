"""The drawing of the floors in docs/design.md is the contract that `make lint` holds imports to."""

from __future__ import annotations

import re
import tomllib

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "docs" / "design.md").exists(), reason="needs the checkout, not a wheel")


def test_the_drawing_is_the_contract() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- floors -->\s*```\n(.*?)```", text, re.DOTALL)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (floors,) = [c for c in contracts if c["type"] == "layers"]
    assert floors["exhaustive"]
    assert block.split("\n")[:-1] == floors["layers"]


def test_every_package_is_drawn() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"\w+", re.findall(r"<!-- floors -->(.*?)<!-- end", text, re.DOTALL)[0]))
    packages = {p.name for p in (ROOT / "edgecnn").iterdir() if (p / "__init__.py").exists()}
    assert packages <= drawn
    modules = {p.stem for p in (ROOT / "edgecnn").glob("*.py")} - {"__init__"}
    assert modules <= drawn
    assert len(modules) <= 8
