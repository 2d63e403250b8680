"""Tables have a row for every operator, commands have help, packages and symlinks are as they must be."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner
from support.paths import ROOT

import edgecnn
from edgecnn.capture.aten import CONVERTERS
from edgecnn.cli import COMMANDS, cli
from edgecnn.export.onnx import lower as onnx_lower
from edgecnn.export.tflite import lower as tflite_lower
from edgecnn.golden.float import EXECUTORS
from edgecnn.graph.ops import OPS

IN_CHECKOUT = (ROOT / "pyproject.toml").exists()
# No subpackage on the device side, nor what the command line needs before it starts to work, may need torch.
WITHOUT_TORCH = (
    "graph",
    "export",
    "targets",
    "bundle",
    "parity",
    "locate",
    "bench",
    "project",
    "report",
    "cli",
    "data",
    "loading",
)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_operator_has_a_row_in_every_table(op) -> None:
    for table in (EXECUTORS, onnx_lower.LOWERINGS, tflite_lower.LOWERINGS):
        assert op in table
    assert op.__doc__
    assert op.VALUES


def test_no_table_has_rows_for_anything_else() -> None:
    for table in (EXECUTORS, onnx_lower.LOWERINGS, tflite_lower.LOWERINGS):
        assert set(table) == set(OPS)


def test_every_aten_row_names_an_operator_of_torch() -> None:
    import torch

    for name in CONVERTERS:
        namespace, base, overload = name.split(".")
        assert hasattr(getattr(getattr(torch.ops, namespace), base), overload), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "-h"])
    assert result.exit_code == 0
    assert f"edgecnn {name}" in result.output
    assert "Example" in result.output


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_imports_without_torch(package: str) -> None:
    program = f"""
import importlib, pkgutil, sys
sys.modules["torch"] = None
import edgecnn
package = importlib.import_module("edgecnn.{package}")
for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(module.name)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_import_loads_nothing_heavy() -> None:
    program = """
import sys, edgecnn
heavy = {"torch", "onnx", "onnxruntime", "ai_edge_litert", "numpy", "rich", "PIL", "msgspec"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_help_loads_nothing_heavy() -> None:
    program = """
import sys
from edgecnn.cli import main
sys.argv = ["edgecnn", "--help"]
try:
    main()
finally:
    heavy = {"torch", "onnx", "onnxruntime", "ai_edge_litert", "numpy", "rich", "PIL"} & set(sys.modules)
    assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_public_names_exist() -> None:
    for name in edgecnn.__all__:
        assert getattr(edgecnn, name)
    with pytest.raises(AttributeError):
        _ = edgecnn.no_such_name


@pytest.mark.skipif(not IN_CHECKOUT, reason="needs the checkout, not an installed wheel")
@pytest.mark.parametrize("page", ["operators.md", "commands.md", "check.schema.json", "ci.schema.json"])
def test_docs_are_up_to_date(page: str) -> None:
    """`make docs` writes them."""
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"][page]()
    assert (ROOT / "docs" / page).read_text() == made


@pytest.mark.skipif(not IN_CHECKOUT, reason="needs the checkout, not an installed wheel")
def test_packages_listed_are_the_packages_there() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = set()
    for top, prefix in (("edgecnn", "edgecnn"), ("export", "edgecnn.export"), ("targets", "edgecnn.targets")):
        for file in (ROOT / top).rglob("*.py"):
            folder = file.parent.relative_to(ROOT / top)
            if not set(folder.parts) & {"export", "targets"} or top != "edgecnn":
                found.add(".".join([prefix, *folder.parts]))
    assert found == listed


@pytest.mark.skipif(not IN_CHECKOUT, reason="needs the checkout, not an installed wheel")
@pytest.mark.parametrize("name", ["export", "targets"])
def test_symlinks(name: str) -> None:
    link = ROOT / "edgecnn" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name


@pytest.mark.skipif(not IN_CHECKOUT, reason="needs the checkout, not an installed wheel")
def test_every_phony_target_of_the_makefile_has_a_rule() -> None:
    """Without one ``make`` says that nothing is to be done, and succeeds."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    (names,) = [line.split(":")[1].split() for line in lines if line.startswith(".PHONY:")]
    assert names
    for name in names:
        assert any(line.startswith(f"{name}:") for line in lines), name
