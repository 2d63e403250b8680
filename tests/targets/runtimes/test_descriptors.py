"""Every runtime's descriptor answers every question, and its answers fit the other tables."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from itertools import product
from pathlib import Path

import pytest

import edgecnn
from edgecnn.export.formats import FORMATS, OFFERED, PRECISIONS
from edgecnn.golden.int8_dynamic import RULES as DYNAMIC_RULES
from edgecnn.golden.integer import KERNEL_SETS
from edgecnn.golden.integer16 import LINEAR
from edgecnn.targets.environments import ENVIRONMENT_SPECS
from edgecnn.targets.runtimes import RUNTIMES, Runtime
from edgecnn.targets.runtimes.runtime_descriptor import Profiler, SaturationFacts

RULES = {"int16x8": LINEAR, "int8-dynamic": DYNAMIC_RULES}
ROWS = pytest.mark.parametrize("row", RUNTIMES.values(), ids=lambda row: row.name)
PACKAGE = Path(edgecnn.__file__).parent
FILES = [path for folder in (PACKAGE, PACKAGE / "export", PACKAGE / "targets") for path in folder.rglob("*.py")]


@pytest.mark.parametrize("kind", [Runtime, Profiler, SaturationFacts])
def test_no_answer_has_a_default(kind: type) -> None:
    """A new runtime cannot leave a question open: a descriptor without an answer is not made."""
    empty = inspect.Parameter.empty
    assert [p.name for p in inspect.signature(kind).parameters.values() if p.default is not empty] == []
    assert [f.name for f in dataclasses.fields(kind) if f"    {f.name}: " not in (inspect.getdoc(kind) or "")] == []


@ROWS
def test_names(row: Runtime) -> None:
    assert RUNTIMES[row.name] is row
    assert row.title
    assert set(row.formats) <= set(FORMATS)
    assert row.working_module.partition(".")[0] == row.module
    assert set(row.lacks) <= {p for f in row.formats for p in OFFERED[f]}


@ROWS
def test_options_hold_what_they_say(row: Runtime) -> None:
    assert all(option.accepts(option.default) for option in row.options.values())
    conditions = [d.unless for d in row.deviations] + ([row.saturation.unless] if row.saturation else [])
    for name, value in (item for unless in conditions for item in unless.items()):
        assert row.options[name].accepts(value)


@ROWS
def test_every_rule_is_one_of_the_reference(row: Runtime) -> None:
    """Under each combination of options, for each precision that it runs."""
    offered = {p for f in row.formats for p in OFFERED[f]} - set(row.lacks)
    values = [
        option.choices or ((True, False) if isinstance(option.default, bool) else (option.default,))
        for option in row.options.values()
    ]
    for precision in (p for p in PRECISIONS if p in offered):
        for chosen in product(*values):
            rule = row.rounding(precision, dict(zip(row.options, chosen, strict=True))).rule
            assert rule in RULES.get(precision, KERNEL_SETS)


@ROWS
def test_how_it_is_installed(row: Runtime) -> None:
    """Its wheels are in order; an environment has exact versions, the runtime's first, as the newest wheel has it."""
    assert row.wheels
    assert (row.name in ENVIRONMENT_SPECS) is (row.environment is not None)
    if row.installation == "environment":
        assert row.environment is not None
    if row.environment is not None:
        assert row.environment.requirements[0] == f"{row.distribution}=={row.wheels[0].release}"
        assert all(requirement.count("==") == 1 for requirement in row.environment.requirements)
        assert row.environment.why


@ROWS
def test_words_of_a_missing_operator(row: Runtime) -> None:
    assert row.missing_operator
    for pattern in row.missing_operator:
        assert {"kind"} <= set(pattern.groupindex) <= {"kind", "version", "name", "number"}


def test_no_other_module_compares_a_runtimes_name() -> None:
    """Outside its descriptor and the agent, a runtime's name decides nothing: its answers do."""
    found = []
    for path in FILES:
        inside = path.relative_to(PACKAGE)
        if inside.parts[:2] in {("targets", "runtimes"), ("targets", "agent")}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            parts += [node.pattern] if isinstance(node, ast.match_case) else []
            constants = [c for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant)]
            found += [f"{inside}:{c.lineno}: {c.value}" for c in constants if c.value in RUNTIMES]
    assert found == []
