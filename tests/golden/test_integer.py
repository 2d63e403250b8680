"""The golden integer executor against the runtimes: every operator alone, on golden integers.

``benchmarks/int8_exactness.py`` runs the same comparison on a million values per kind of operator and runtime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES, CORE, Case
from cases.int8_corners import INT8_CORNERS
from support.int8 import (
    EXECUTORS,
    EXPORTERS,
    NETWORKS,
    Compared,
    images,
    integers,
    network,
    quantized_network,
    run,
    teacher_forced,
)
from support.int8_cases import REFUSED, SAMPLES, quantized_or_refused

from edgecnn.golden.integer import execute_integer
from edgecnn.program.quantized import QuantizedGraph

INEXACT = {"Add", "Mean", "Sigmoid", "Softmax", "Sub", "Tanh"}
"""Kinds of operators that a runtime may round otherwise where a real result lies between two integers."""


def _judged(results: list[Compared]) -> None:
    for c in results:
        limit = 1 if c.kind in INEXACT else 0
        assert c.worst <= limit, (
            f"{c.node.describe()} on {c.executor}: {c.mismatches} of {c.values} differ, by up to {c.worst} at {c.place}"
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_of_networks(name: str, agent: Any) -> None:
    """On images of digits; XNNPACK and ONNX Runtime by one rule, the reference kernels by theirs."""
    q, data = quantized_network(name), images(network(name).input_shape, 16)
    results = list(teacher_forced(agent, q, integers(q, [data])))
    _judged(results)
    assert {c.executor for c in results} == set(EXECUTORS)


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name: str, agent: Any) -> None:
    q = quantized_network(name)
    given = integers(q, [images(network(name).input_shape, 128)])
    for executor, outputs in _whole(agent, q, given).items():
        golden = execute_integer(q, given, rounding=EXECUTORS[executor].rounding)
        for output, got in zip(q.graph.outputs, outputs, strict=True):
            assert np.array_equal(got, golden[output.value]), f"{output.name} on {executor}"


@pytest.mark.parametrize("case", [*CORE, *INT8_CORNERS], ids=lambda c: c.name)
def test_case(case: Case, agent: Any) -> None:
    """Each operator alone, then the whole, on a batch of several samples where the batch is free."""
    refused = REFUSED.get(case.name, {})
    q = quantized_or_refused(case, refused)
    if q is None:
        return
    names = []
    for name, executor in EXECUTORS.items():
        if executor.form in refused:
            _assert_refused(q, executor.form, refused[executor.form])
        else:
            names.append(name)
    given = integers(q, case.inputs(SAMPLES if case.batch_free else 1))
    _judged(list(teacher_forced(agent, q, given, names)))
    outputs = _whole(agent, q, given, names)
    for name, got in outputs.items():
        golden = execute_integer(q, given, rounding=EXECUTORS[name].rounding)
        for output, values in zip(q.graph.outputs, got, strict=True):
            worst = np.abs(values - golden[output.value].astype(np.int64)).max()
            assert worst <= _reach(q), f"{output.name} on {name}: off by {worst}"


def _assert_refused(q: QuantizedGraph, form: str, words: tuple[type[Exception], str]) -> None:
    with pytest.raises(words[0], match=words[1]):
        EXPORTERS[form](q, version="0")


def _reach(q: QuantizedGraph) -> int:
    """How far a whole model's results may be off: 1 for each operator that may."""
    return sum(type(n.op).__name__ in INEXACT for n in q.graph.nodes)


def _whole(
    agent: Any, q: QuantizedGraph, given: list[np.ndarray], names: Any = tuple(EXECUTORS)
) -> dict[str, list[np.ndarray]]:
    written = {form: EXPORTERS[form](q, version="0") for form in {EXECUTORS[n].form for n in names}}
    return {n: run(agent, EXECUTORS[n], q, written[EXECUTORS[n].form], given) for n in names}


def test_refused_cases_exist() -> None:
    assert REFUSED.keys() <= {c.name for c in CORE}
    assert len({c.name for c in (*CASES, *INT8_CORNERS)}) == len(CASES) + len(INT8_CORNERS)
