"""Each format is one descriptor that answers for every precision, and nothing outside the registry asks for a name."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from support.paths import ROOT

from edgecnn.errors import EdgecnnError, UsageError
from edgecnn.export.editing import Editor
from edgecnn.export.format_descriptor import Format, WriteOptions
from edgecnn.export.formats import FORMATS, PRECISIONS, REGISTRY, check_offered, format_of, formats_with
from edgecnn.export.legal_programs import LEGALIZED, LegalProgram
from edgecnn.exporting.precisions import DESCRIPTORS, plan_precisions
from edgecnn.graph.graph import Graph

PACKAGES = ("edgecnn", "export", "targets")
NO_PROGRAM = LegalProgram(graph=Graph(inputs=(), nodes=(), outputs=(), constants={}))


@pytest.mark.parametrize("row", REGISTRY.values(), ids=list(REGISTRY))
def test_a_format_is_written_in_each_precision_or_says_why_not(row: Format) -> None:
    assert not row.writers.keys() & row.refused.keys()
    assert row.writers.keys() | row.refused.keys() == set(PRECISIONS)
    for precision in row.refused:
        with pytest.raises(UsageError, match=f"{precision} is not written as {row.name}") as caught:
            row.write(NO_PROGRAM, precision, WriteOptions(version="0"))
        assert caught.value.why
        assert caught.value.hint


def test_precisions_are_the_same_in_every_table() -> None:
    assert tuple(DESCRIPTORS) == PRECISIONS
    assert tuple(LEGALIZED) == PRECISIONS


@pytest.mark.parametrize("row", REGISTRY.values(), ids=list(REGISTRY))
def test_an_editor_has_every_function_with_its_parameters(row: Format) -> None:
    wanted = {name: f for name, f in vars(Editor).items() if not name.startswith("_") and inspect.isfunction(f)}
    assert len(wanted) >= 10
    for name, function in wanted.items():
        given = getattr(row.editor(), name)
        assert list(inspect.signature(given).parameters) == list(inspect.signature(function).parameters)[1:], name
        assert given.__doc__


@pytest.mark.parametrize("row", REGISTRY.values(), ids=list(REGISTRY))
@pytest.mark.parametrize(("precision", "said"), [("int8", "no int8 program"), ("int16x8", "no int16x8 program")])
def test_a_program_that_is_not_there_is_missed(row: Format, precision: str, said: str) -> None:
    if precision in row.writers:
        for use in (
            lambda: row.write(NO_PROGRAM, precision, WriteOptions(version="0")),
            lambda: row.legalized(NO_PROGRAM, precision),
        ):
            with pytest.raises(EdgecnnError, match=said):
                use()


def test_what_is_not_known_is_refused_and_not_taken_for_something_else() -> None:
    with pytest.raises(UsageError, match="'onx' is no format"):
        format_of("onx")
    with pytest.raises(UsageError, match="int4 is not written as tflite"):
        check_offered("tflite", "int4")
    with pytest.raises(UsageError, match="'int4' is no precision"):
        plan_precisions(NO_PROGRAM.graph, ["int4"], None, recipe="int8", opset=17, golden_inputs=())
    (plan,) = plan_precisions(NO_PROGRAM.graph, ["fp32"], None, recipe="int8", opset=17, golden_inputs=())
    with pytest.raises(UsageError, match="'onx' is no format"):
        plan.write("onx")


def test_options_of_one_format_are_fields_of_all_options() -> None:
    assert [row.name for row in formats_with("opset")] == ["onnx"]
    for row in REGISTRY.values():
        assert all(hasattr(WriteOptions(version="0"), option) for option in row.options)


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the checkout, not an installed wheel")
def test_the_name_of_a_format_is_compared_nowhere() -> None:
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 100
    assert [f"{file}:{line}" for file in files for line in _comparisons(file)] == []


def _comparisons(file: Path) -> list[int]:
    """The lines of a file that compare something with a format's name."""
    lines = []
    for node in ast.walk(ast.parse(file.read_text())):
        parts: list[ast.expr | ast.pattern] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        constants = [c.value for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant)]
        if any(value in FORMATS for value in constants):
            lines.append(node.lineno)
    return lines
