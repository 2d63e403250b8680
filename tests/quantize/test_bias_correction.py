"""Corrected biases bring means back, and both formats keep them."""

from __future__ import annotations

import numpy as np
import torch
from support.int8 import EXECUTORS, integers, run
from support.quantized_nets import made, samples
from torch import nn

from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.golden.integer import execute_integer
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.bias_correction import correct_biases
from edgecnn.quantize.recipe import RECIPES


def test_corrected_biases_bring_means_back_and_both_formats_keep_them(net: nn.Module, agent: object) -> None:
    q = made(net, RECIPES["int8-portable"])
    x = samples(64, seed=2)
    value = q.graph.outputs[0].value
    expected = net(torch.from_numpy(x)).detach().numpy()

    def shift(q: QuantizedGraph) -> float:
        got = q.activations[value].dequantize(execute_integer(q, integers(q, [x]))[value])
        return float(np.abs((got - expected).mean(axis=0)).mean())

    corrected = correct_biases(q, [samples()])
    assert shift(corrected) < shift(q)
    assert corrected.weights == q.weights
    given = integers(q, [x])
    golden = execute_integer(corrected, given)[value].astype(int)
    for name, export in (("onnxruntime", export_onnx_int8), ("xnnpack", export_tflite_int8)):
        (got,) = run(agent, EXECUTORS[name], corrected, export(corrected, version="0"), given)
        assert (got == golden).all(), name
