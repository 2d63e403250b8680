"""What int16x8 has no form for is refused by the operator's name, with the reason and what to try."""

from __future__ import annotations

import pytest
from cases import CASES
from cases.base import captured

from edgecnn.errors import QuantizationError
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize16 import quantize_int16


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prelu per channel", r"PRelu.*constant"),
        ("arithmetic maximum per channel", r"Maximum.*constant"),
        ("shape cat a constant", r"Concat.*constant"),
        ("matmul with a constant on the left", r"MatMul.*constant"),
        ("arithmetic lower rank", r"Reshape.*first axis is not the batch"),
        ("reduction to a number", r"Mul.*first axis is not the batch"),
    ],
)
def test_refused_by_name(name: str, words: str) -> None:
    case = next(c for c in CASES if c.name == name)
    graph = prepare(captured(case))
    observers = observe(graph, [[x.numpy() for x in case.inputs(1)]])
    with pytest.raises(QuantizationError, match=words) as caught:
        quantize_int16(graph, observers)
    assert caught.value.why
    assert "int8" in caught.value.hint
