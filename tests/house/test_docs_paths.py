"""Every file and module that the documentation names exists."""

import importlib
import re
from pathlib import Path

import pytest
from support.paths import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"`(?:python )?((?:edgecnn|export|targets|tests|docs|benchmarks|\.ci)/[\w./-]*)")
DOTTED = re.compile(r"\bedgecnn(?:\.\w+)+")
LINKED = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
NO_MODULES = frozenset(("edgecnn.toml", "edgecnn.json", "edgecnn.xml", "edgecnn.yml", "edgecnn.exact_float"))


def _exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of a module or class."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        thing = module
        for part in parts[count:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_modules_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    missing += [name for name in DOTTED.findall(text) if name not in NO_MODULES and not _exists(name)]
    missing += [link for link in LINKED.findall(text) if not (page.parent / link).exists()]
    assert not missing


def test_a_missing_name_is_found() -> None:
    assert _exists("edgecnn.parity.verdict.Verdict")
    assert not _exists("edgecnn.parity.verdict.NoSuchClass")
    assert not _exists("edgecnn.no_such_room")
    assert NAMED.findall("see `edgecnn/golden/integer.py` and `python docs/zoo.py --train`") == [
        "edgecnn/golden/integer.py",
        "docs/zoo.py",
    ]
