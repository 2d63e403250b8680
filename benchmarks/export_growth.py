"""Growth of the cost of an export with the number of layers: processor time per layer, step by step.

``python benchmarks/export_growth.py`` exports nets of 10, 100 and 1,000 layers in float and in int8, and prints the
time per layer of each step. It fails if a layer of the largest net costs more than twice as much as a layer of the next
smaller net.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecnn.capture.capture import capture_program
from edgecnn.capture.trace import trace_module
from edgecnn.export.onnx.export import export_onnx, export_onnx_int8
from edgecnn.export.tflite.export import export_tflite, export_tflite_int8
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize

LAYERS = (10, 100, 1000)
ALLOWED = 2.0


class Block(nn.Module):
    """A convolution, a batch norm, a ReLU and a sum: counted as one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.relu(self.bn(self.conv(x))) + x) * 0.7


def measure(layers: int) -> dict[str, float]:
    """Processor time of each step, in milliseconds per layer."""
    torch.manual_seed(0)
    module, x = nn.Sequential(*[Block() for _ in range(layers)]).eval(), torch.randn(1, 4, 6, 6)
    spent: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        spent[step] = (time.process_time() - start) * 1000 / layers
        return result

    program = timed("trace", lambda: trace_module(module, (x,)))
    graph = timed("capture", lambda: capture_program(program))
    timed("onnx", lambda: export_onnx(graph, version="0"))
    timed("tflite", lambda: export_tflite(graph, version="0"))
    legal = timed("prepare", lambda: prepare(graph))
    seen = timed("observe", lambda: observe(legal, [[np.asarray(x)]]))
    quantized = timed("quantize", lambda: quantize(legal, seen))
    timed("onnx int8", lambda: export_onnx_int8(quantized, version="0"))
    timed("tflite int8", lambda: export_tflite_int8(quantized, version="0"))
    return spent


def main() -> int:
    measure(2)  # imports
    rows = {layers: measure(layers) for layers in LAYERS}
    print("ms per layer | " + " | ".join(rows[LAYERS[0]]))
    for layers, row in rows.items():
        print(f"{layers:12d} | " + " | ".join(f"{v:{len(k)}.2f}" for k, v in row.items()))
    grown = [k for k, v in rows[LAYERS[-1]].items() if v > ALLOWED * rows[LAYERS[-2]][k]]
    if grown:
        print(f"more than {ALLOWED:g} times as much per layer: {', '.join(grown)}")
    return bool(grown)


if __name__ == "__main__":
    sys.exit(main())
