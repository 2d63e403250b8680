"""An operator of every kind on every emulated board, float and int8, each on the reference's own values."""

from __future__ import annotations

import functools

import pytest
from cases import CASES
from int8_support import Executor
from operators_support import FORMS, RULES, Cell, Part, chosen, float_parts, int8_parts, survey, writable

from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation.build import is_built

# The fewest that have every kind of operator that any case has, in float and in int8.
NAMES = (
    "net attention over channels and places",
    "attention over places",
    "activation Mish()",
    "shuffle and back",
    "clamp between tensors",
    "activation ELU(alpha=0.5)",
    "net convnext block",
    "pad ZeroPad2d((-1, 1, 2, -2))",
    "prelu of features",
    "blur pool",
    "reduction normalize",
    "reduction amin over the image",
    "resize {'size': (1, 1), 'mode': 'bilinear', 'align_corners': True}",
    "log softmax of scores",
    "activation LeakyReLU(negative_slope=0.01)",
    "activation Hardswish()",
    "arithmetic exp",
    "argmax of scores",
    "conv transpose 1d",
    "activation GELU(approximate='none')",
    "arithmetic sign",
    "arithmetic x ** 1.7",
    "arithmetic log",
)
FEW = [case for case in CASES if case.name in NAMES]
PLACES = (
    ("pi2", "tflite-runtime"),
    ("pi4", "onnxruntime"),
    ("pi4", "litert"),
    ("pi5", "onnxruntime"),
    ("pi5", "litert"),
)
KNOWN = {("pi2", "tflite-runtime", "Sigmoid"): 2.5e-5}
"""Float kernels that are less exact than 1e-5 of the range."""
STEP = 1
"""Of int8: kernels may round a tie otherwise; which do, and how often, is in docs/runtimes.md."""


@functools.cache
def parts(precision: str) -> list[Part]:
    """One operator of each kind."""
    found = float_parts(FEW) if precision == "fp32" else int8_parts(sorted(set(RULES.values())), FEW)
    return chosen(found, 1)


def test_the_few_cases_are_there() -> None:
    assert sorted(case.name for case in FEW) == sorted(NAMES)
    assert len(parts("fp32")) > 40
    assert len(parts("int8")) > 30


@pytest.mark.parametrize(("board", "runtime"), PLACES)
def test_every_kind_of_operator(boards, board: str, runtime: str) -> None:
    if not is_built(load_board(board)):
        pytest.skip(f"edgecnn targets emulate {board} builds the board")
    executor = Executor(FORMS[runtime], runtime, {}, RULES[runtime])
    cells: dict[tuple[str, str], Cell] = {}
    for precision in ("fp32", "int8"):
        fit = [p for p in parts(precision) if writable(p, executor.form)]
        survey(boards(board, runtime), executor, fit, cells, precision)
    for (kind, precision), cell in cells.items():
        limit = KNOWN.get((board, runtime, kind), 1e-5) if precision == "fp32" else STEP
        assert cell.worst <= limit, f"{kind}, {precision}"
    refused = {(kind, precision) for (kind, precision), cell in cells.items() if cell.lost}
    assert refused == ({("Log", "int8")} if runtime == "tflite-runtime" else set())
