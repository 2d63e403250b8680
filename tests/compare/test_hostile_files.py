"""Corrupt and hostile files: always a clear error or a verdict. ``benchmarks/hostile_files.py`` tries thousands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper
from support.hostile import MEMORY, SUBJECTS, Lab, Reused, Tally, peak
from support.paths import ROOT

from edgecnn.compare import compare_files
from edgecnn.errors import TargetError
from edgecnn.targets.hosts import local
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import Target

EACH = 25
"""Mutations of each subject: 150 in all."""


@pytest.fixture(scope="module")
def lab(small_bundle, tmp_path_factory):
    made = Lab(small_bundle, tmp_path_factory.mktemp("hostile"))
    yield made
    made.host.end()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_mutations_end_in_a_clear_error_or_a_verdict(lab, subject) -> None:
    tally = Tally()
    for number in range(EACH):
        lab.try_one(subject, Random(f"{subject} {number}"), tally)
    assert tally.outcomes.total() == EACH
    assert tally.outcomes[subject, "refused"] + tally.outcomes[subject, "refused by the runtime"] > 0
    assert peak() < MEMORY


def test_the_good_files_pass(lab) -> None:
    """Else the mutations would prove nothing."""
    import edgecnn

    assert edgecnn.check_bundle(lab.good, targets=lab.targets).passed


# --- a runtime that crashes -------------------------------------------------------------------------------------------

CRASHES = """
import os, signal
__version__ = "1.0"
class Interpreter:
    def __init__(self, **_):
        os.kill(os.getpid(), signal.SIGSEGV)
class OpResolverType:
    BUILTIN = BUILTIN_REF = BUILTIN_WITHOUT_DEFAULT_DELEGATES = 0
"""


def test_the_command_survives_a_runtime_that_crashes(small_bundle, tmp_path) -> None:
    """A package in the runtime's place that ends its process as a runtime does that reads where nothing is."""
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '1.0'\n")
    (package / "interpreter.py").write_text(CRASHES)
    (package / "schema_py_generated.py").write_text(Path(schema.__file__).read_text())
    path = str(small_bundle.artifact("tflite", "fp32").path)
    done = subprocess.run(
        [sys.executable, "-c", "from edgecnn.cli import main; main()", "compare", path, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: net.fp32.tflite on litert: crashed with SIGSEGV" in done.stderr
    assert "Traceback" not in done.stderr


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def expanding(tmp_path):
    """A file of some hundred bytes whose output has 16 GiB."""
    shape = numpy_helper.from_array(np.array([2**32], np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("Add", ["big", "x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2**32])],
        [shape],
    )
    path = tmp_path / "expanding.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_what_a_runtime_can_take_is_bounded(expanding) -> None:
    host = Reused()
    target = Target(runtime="onnxruntime", host=host, name="onnxruntime@local")
    with pytest.raises(TargetError, match=r"[Aa]lloc|crashed with"):
        compare_files(expanding, expanding, targets=[target])
    host.end()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_the_bound_is_that_which_docs_state() -> None:
    with LocalHost().start() as connection:
        limits = Path(f"/proc/{connection.pid}/limits").read_text().splitlines()
    row = next(line for line in limits if line.startswith("Max data size"))
    assert row.split()[3:5] == [str(local.MEMORY)] * 2
    docs = ROOT / "docs" / "compare.md"
    if docs.exists():
        assert f"{local.MEMORY // 2**30} GiB" in docs.read_text()
