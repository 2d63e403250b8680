"""The golden executor of int8-dynamic computes what kernels compute."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch

from edgecnn.capture.capture import capture
from edgecnn.export.tflite.dynamic import export_tflite_int8_dynamic
from edgecnn.export.tflite.legalize import RULES as LEGAL
from edgecnn.golden.int8_dynamic import RULES, execute_dynamic
from edgecnn.graph.rewrite import apply_rules

REFERENCE = {"xnnpack": False, "reference_kernels": True}
PLAIN = {"xnnpack": False}


class Kinds(torch.nn.Module):
    """A convolution over places, one over single places, one of these with a stride, and linear layers on two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.single = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 5, 1)
        self.strided, self.rows = torch.nn.Conv2d(5, 4, 1, stride=2), torch.nn.Linear(8, 7)
        self.flat = torch.nn.Linear(4 * 8 * 7, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.strided(torch.relu(self.single(self.near(x))))
        return self.flat(self.rows(x).flatten(1))


@pytest.mark.parametrize("data", ["noise", "ties"])
@pytest.mark.parametrize(("options", "rule"), [({}, "xnnpack"), (PLAIN, "tflite"), (REFERENCE, "tflite")])
def test_golden_int8_dynamic_is_what_kernels_compute(data: str, options, rule: str, agent) -> None:
    """On integers from -255 to 255 every odd one lies just between two steps, where the rules differ."""
    torch.manual_seed(0)
    graph = apply_rules(capture(Kinds().eval(), [torch.zeros(1, 3, 16, 16)]), LEGAL)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3, 16, 16)) if data == "noise" else rng.integers(-255, 256, (6, 3, 16, 16))
    if data == "ties":
        x[:, 0, 0, :2] = -255, 255
        first = graph.nodes[0].name
        graph = replace(graph, nodes=graph.nodes[:1], outputs=(replace(graph.outputs[0], value=first),))
        graph = replace(graph, constants=MappingProxyType({n: graph.constants[n] for n in graph.nodes[0].inputs[1:]}))
    x = x.astype(np.float32)
    written = export_tflite_int8_dynamic(graph, version="0")
    with agent.open("litert", written.data, "kinds", **options) as session:
        (found,) = session.infer([np.ascontiguousarray(x.transpose(written.axes[graph.inputs[0].name]))])
    found = found.transpose(np.argsort(written.axes[graph.outputs[0].name]))
    off = {r: np.abs(execute_dynamic(graph, [x], rule=r)[graph.outputs[0].value] - found).max() for r in RULES}
    extent = np.ptp(found)
    assert off[rule] <= 1e-6 * extent
    if data == "ties":
        assert min(off[r] for r in RULES if r != rule) > 1e-4 * extent


@pytest.mark.parametrize("rule", RULES)
def test_a_row_of_zeros_has_a_scale(rule: str) -> None:
    integers, scales = RULES[rule](np.zeros((2, 4), np.float32))
    assert not integers.any()
    assert (scales == 1).all()
