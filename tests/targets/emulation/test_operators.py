"""An operator of every kind on every emulated board, float and int8, each on the reference's own values."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from cases import CASES
from support.int8 import Executor
from support.operators import FORMS, RULES, Cell, Part, chosen, float_parts, int8_parts, survey, writable
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.export.tflite.export import export_tflite
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation.build import is_built
from edgecnn.targets.runtimes import RUNTIMES

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
(SIGMOID,) = RUNTIMES["tflite-runtime"].deviations
FEW = [case for case in CASES if case.name in NAMES]
PLACES = (
    ("pi2", "tflite-runtime"),
    ("pi4", "onnxruntime"),
    ("pi4", "litert"),
    ("pi5", "onnxruntime"),
    ("pi5", "litert"),
)
KNOWN = {("pi2", "tflite-runtime", "Sigmoid"): 2.5e-5}
"""Float kernels that are less exact than 1e-5 of the range, see `test_the_sigmoid_of_32_bit_arm`."""
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


def test_the_sigmoid_of_32_bit_arm(boards) -> None:
    """It divides by Arm's 8-bit estimate of a reciprocal and one step of Newton's; its reference kernel does not."""
    if not is_built(load_board("pi2")):
        pytest.skip("edgecnn targets emulate pi2 builds the board")
    x = np.linspace(-20, 20, 1 << 12, dtype=np.float32)[np.newaxis]
    true = 1 / (1 + np.exp(-x.astype(np.float64)))
    sigmoid, tanh = (
        export_tflite(capture(module, [torch.zeros(x.shape)]), version="0") for module in (nn.Sigmoid(), nn.Tanh())
    )
    reference = {"xnnpack": False, **SIGMOID.unless}
    agent, given = boards("pi2", "tflite-runtime"), []
    assert agent.hello().wheel_machine == SIGMOID.machine
    for written, options in ((sigmoid, {}), (sigmoid, reference), (tanh, {})):
        with agent.open("tflite-runtime", written.data, "curve", **options) as session:
            given += session.infer([x])
    worst = float((np.abs(given[0] - true) / true).max())
    assert SIGMOID.error / 2 < worst <= SIGMOID.error
    steps = np.abs(given[0].view(np.int32) - one_step(np.exp(x), 1 + np.exp(x)).view(np.int32))
    assert (steps <= 2).mean() > 0.98  # the rest is what exp is off by
    assert np.abs(given[1] - true).max() < 1e-7
    assert SIGMOID.error / 2 < np.abs(given[2] - np.tanh(x.astype(np.float64))).max() <= SIGMOID.error


def one_step(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b for b > 0, by VRECPE (Arm's reference manual, RecipEstimate) and one VRECPS, in float32."""
    mantissa, exponent = np.frexp(b)
    nearest = 512 / (np.floor(mantissa * 512) + 0.5)
    estimate = np.ldexp((np.floor(256 * nearest + 0.5) / 256).astype(np.float32), -exponent)
    return a * (estimate * (np.float32(2) - b * estimate))
