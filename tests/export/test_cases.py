"""Every row of the operator table, through capture, the float executor, both formats and their runtimes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import onnx
import pytest
import torch
from cases import CASES, Case
from cases.base import captured
from support.exporters import EXPORTERS, LIMIT
from torch.utils import _pytree as pytree

from edgecnn.errors import LoweringError
from edgecnn.golden.float import execute_float
from edgecnn.graph.verify import batch_is_free
from edgecnn.parity.metrics import relative_error


def _reference(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of its own kernels, once in a process: maybe here
        return [t.numpy() for t in _leaves(module(*(x.clone() for x in inputs))) if t is not None]


def _leaves(result: object) -> Iterator[torch.Tensor | None]:
    """Tensors in the order of the outputs, in dataclasses too, which torch may not know yet."""
    for leaf in pytree.tree_leaves(result, is_leaf=is_dataclass):
        if is_dataclass(leaf):
            for part in fields(leaf):
                yield from _leaves(getattr(leaf, part.name))
        else:
            yield leaf


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_case(case: Case, infer) -> None:
    module, graph = case.module(), captured(case)
    assert batch_is_free(graph) == case.batch_free
    written = {}
    for form, export in EXPORTERS.items():
        if form in case.refused:
            with pytest.raises(LoweringError, match=case.refused[form]):
                export(graph, version="0")
        else:
            written[form] = export(graph, version="0")
    if "tflite" in written:
        assert written["tflite"].operators.get("TRANSPOSE", 0) == case.transposes
        assert bool(written["tflite"].notes) == bool(case.transposes)
    if "onnx" in written:
        model = onnx.load_from_string(written["onnx"].data).graph
        assert {i.name for i in model.initializer} <= {i for n in model.node for i in n.input}
    for samples in (1, 3) if case.batch_free else (1,):
        inputs = case.inputs(samples)
        reference = _reference(module, inputs)
        arrays = [x.numpy() for x in inputs]
        values = execute_float(graph, arrays)
        _compare("graph", [values[o.value] for o in graph.outputs], reference)
        for form, w in written.items():
            _compare(form, infer(form, graph, w, arrays), reference)


def _compare(what: str, outputs: list[np.ndarray], reference: list[np.ndarray]) -> None:
    for output, expected in zip(outputs, reference, strict=True):
        assert output.shape == expected.shape, what
        assert relative_error(output, expected) <= LIMIT, what


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize(
    "name",
    [
        "residual",
        "global mean",
        "slice",
        "hardtanh odd bounds",
        "pad with a value",
        "activation GELU(approximate='none')",
        "activation GELU(approximate='tanh')",
        "activation Hardswish()",
        "reduction amax kept",
        "reduction sum kept",
        "resize {'scale_factor': 1.3, 'mode': 'bilinear', 'align_corners': False}",
        "pad ReflectionPad2d((1, 1, 1, 1))",
        "group norm 2",
        "pixel shuffle",
    ],
)
def test_onnx_opsets(name: str, opset: int, infer) -> None:
    case = next(c for c in CASES if c.name == name)
    graph, inputs = captured(case), case.inputs(2)
    outputs = infer("onnx", graph, EXPORTERS["onnx"](graph, version="0", opset=opset), inputs)
    _compare(f"opset {opset}", outputs, _reference(case.module(), inputs))


def test_names_are_unique() -> None:
    assert len({c.name for c in CASES}) == len(CASES)
