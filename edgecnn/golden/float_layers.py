"""Float layers of an int8 program in the golden executor: their results are float32, all other values int8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgecnn.golden.float import EXECUTORS
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Activation, ValueName
from edgecnn.graph.verify import batch_is_free
from edgecnn.program.qparams import Int8
from edgecnn.program.quantized import QuantizedGraph

Value = npt.NDArray[Any]


def as_integers(q: QuantizedGraph, name: ValueName, value: Value) -> Int8:
    """A value as integers; float32 is quantized by the value's parameters."""
    return q.activations[name].quantize(value) if value.dtype == np.float32 else value.astype(np.int8, copy=False)


def as_real(q: QuantizedGraph, name: ValueName, value: Value) -> npt.NDArray[np.float32]:
    """A value as real numbers in float32; integers are dequantized. Files with float outputs give these."""
    return value if value.dtype == np.float32 else q.activations[name].dequantize(value)


def integers_read(q: QuantizedGraph, node: Node, values: Mapping[ValueName, Value]) -> Mapping[ValueName, Int8]:
    """The integers that an int8 node reads; results of float nodes are quantized by their parameters."""
    return {name: as_integers(q, name, values[name]) for name in node.inputs if name in values}


def run_skipped(q: QuantizedGraph, node: Node, values: Mapping[ValueName, Value]) -> Value:
    """Execute a float node, activation included, in float32. Runtimes sum in other orders, so last bits may differ."""
    reads = [
        np.array(q.graph.constants[name]) if name in q.graph.constants else as_real(q, name, values[name])
        for name in node.inputs
    ]
    samples = next(len(values[name]) for name in node.inputs if name in values) if batch_is_free(q.graph) else 1
    with torch.no_grad():
        result = EXECUTORS[type(node.op)](node.op, samples, *map(torch.from_numpy, reads))
        activation: Activation = getattr(node.op, "activation", Activation.NONE)
    real: Value = (result if activation is Activation.NONE else result.clamp(*activation.bounds)).numpy()
    return real
