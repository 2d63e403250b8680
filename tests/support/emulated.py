"""Models of the zoo that emulated boards are tested with, and what is needed to run them there.

Boards are built into the user's cache folder (``EDGECNN_CACHE`` names another) where they are not there yet, which
takes a network. Where QEMU is not installed, what needs a board is skipped.
"""

from __future__ import annotations

import shutil
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from support.int8 import EXPORTERS, images, network, quantized_network

from edgecnn.capture.capture import capture
from edgecnn.export.onnx.export import export_onnx
from edgecnn.export.tflite.export import export_tflite
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import build_board, host_programs
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.emulated import EmulatedHost

FP32 = {"onnx": export_onnx, "tflite": export_tflite}
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}
SAMPLES = 16
MODELS = ("conv_pool", "lenet5", "resnet8")
"""Those of the zoo that boards are tested with: emulation is slow."""
qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None, reason="qemu-aarch64 is not installed (apt install qemu-user)"
)
counting = pytest.mark.skipif(
    host_programs.compiler() is None, reason="there is no C compiler (apt install gcc libc6-dev)"
)


@cache
def host(name: str) -> EmulatedHost:
    board = load_board(name)
    build_board(board)
    return EmulatedHost(board)


@cache
def case(name: str) -> tuple[Any, np.ndarray, QuantizedGraph]:
    """A network, images for it, and the network quantized."""
    module = network(name)
    return (
        module,
        images(module.input_shape, SAMPLES),
        quantized_network(name),
    )


@cache
def artifact(name: str, form: str, precision: str) -> tuple[bytes, np.ndarray]:
    """A file, and the images as it takes them."""
    module, x, q = case(name)
    if precision == "int8":
        written = EXPORTERS[form](q, version="0")
        return written.data, np.ascontiguousarray(x.transpose(written.axes[q.graph.inputs[0].name]))
    graph = capture(module, [torch.as_tensor(x[:1])])
    written = FP32[form](graph, version="0")
    return written.data, np.ascontiguousarray(x.transpose(written.axes[graph.inputs[0].name]))


def outputs(agent: Connection, runtime: str, data: bytes, x: np.ndarray, **options: Any) -> np.ndarray:
    with agent.open(runtime, data, "net", **options) as session:
        return session.infer([x])[0]
