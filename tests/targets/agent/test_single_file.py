"""The one file that devices get: the same bytes at every make, and no file from modules that break a rule."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn.targets.agent import single_file
from edgecnn.targets.agent.single_file import MAIN, OLDEST_AGENT_PYTHON, PACKAGE, agent_source, join_modules

MODULES = {path.stem: path.read_text("utf-8") for path in Path(single_file.__file__).parent.glob("*.py")}
ON_DEVICES = MODULES.keys() - {"__init__", "single_file"}


def test_two_makes_give_the_same_bytes():
    """In this process, and in others with other hash seeds."""
    program = "import sys; from edgecnn.targets.agent.single_file import agent_source as a; sys.stdout.write(a())"
    made = [
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert made == [agent_source().encode()] * 2


def test_every_module_is_in_it_once_and_whole():
    for name in ON_DEVICES:
        tree = ast.parse(MODULES[name])
        for node in tree.body:
            text = ast.get_source_segment(MODULES[name], node)
            if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) and "TYPE_CHECKING" not in text:
                assert agent_source().count(f"\n{text}") == 1, (name, node.lineno)


def test_nothing_is_defined_before_what_it_needs():
    names = [line.split()[2] for line in agent_source().splitlines() if line.startswith("# --- ")]
    assert sorted(names) == sorted(ON_DEVICES)
    assert names[-1] == MAIN
    for name in names:
        for other in names[names.index(name) :]:
            assert f"from {PACKAGE}.{other} import" not in MODULES[name]


def test_it_imports_only_the_standard_library_and_numpy():
    tree = ast.parse(agent_source(), feature_version=OLDEST_AGENT_PYTHON)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy"}


def joined(**modules):
    head = "from __future__ import annotations\n"
    return join_modules("main", {name: head + text for name, text in modules.items()}.__getitem__)


def test_imports_are_joined():
    text = joined(
        main=f"import os.path\nfrom {PACKAGE}.one import one\n\nprint(one())\n",
        one="import os\nimport math as m\nfrom json import loads as read\n\n\n# one\ndef one():\n    return 1\n",
    )
    assert text.count("import os\n") == text.count("import os.path\n") == text.count("from __future__") == 1
    assert "import math as m\n" in text
    assert "from json import loads as read\n" in text
    assert "\n\n# one\ndef one():\n    return 1\n\n\n# --- main -" in text
    assert PACKAGE not in text.partition("\n")[2]


BROKEN = {
    "a name twice": ({"main": "from {p}.one import x\n\n_Y = 1\n", "one": "_Y: int = 2\n"}, "_Y stands for"),
    "a function twice": ({"main": "from {p}.one import x\n\ndef x(): ...\n", "one": "def x(): ...\n"}, "x stands"),
    "a name that is imported": ({"main": "from {p}.one import x\n\ntime = 1\n", "one": "import time\n"}, "time stands"),
    "a circle": ({"main": "from {p}.one import x\n", "one": "from {p}.main import y\n"}, "each other: main, one, main"),
    "another name for one": ({"main": "from {p}.one import x as y\n", "one": "x = 1\n"}, "not `from"),
    "a module as a name": ({"main": "from {p} import one\n", "one": "x = 1\n"}, "not `from"),
    "a module of the host": ({"main": "from edgecnn.errors import TargetError\n"}, "not `from"),
    "a late import": ({"main": "x = 1\nimport os\n"}, "line 3: an import after other code"),
    "new syntax": ({"main": "match 1:\n    case 1: pass\n"}, r"3\.10"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_modules_that_break_a_rule_are_refused(case):
    modules, words = BROKEN[case]
    with pytest.raises((ValueError, SyntaxError), match=words):
        joined(**{name: text.format(p=PACKAGE) for name, text in modules.items()})
