"""A net for planted faults, and the edits that plant them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from support.faults import edited_onnx, edited_tflite
from torch import nn

from edgecnn.export.tflite import parse

Edit = Callable[[bytes], bytes]


Change = Callable[[np.ndarray], np.ndarray]


RELU, SAME = 1, 0
"""TFLite's numbers for an activation and a padding."""


class Small(nn.Module):
    """What the usual faults need: ReLU6, a pooling, explicit padding, several channels, a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6())
        self.pool = nn.MaxPool2d(2)
        self.wide = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.head = nn.Conv2d(12, 8, 1)
        self.scores = nn.Linear(128, 5)
        with torch.no_grad():
            self.stem[0].weight.mul_(6)  # so that ReLU6 has something to cut off

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.wide(self.pool(self.stem(x))))
        return self.scores(torch.relu(self.head(x)).flatten(1))


def one_off(array: np.ndarray) -> np.ndarray:
    """One weight off by one, or by a tenth of the largest where they are real."""
    middle = np.unravel_index(array.size // 2, array.shape)
    if array.dtype.kind == "f":
        array[middle] += 0.1 * np.abs(array).max()
    else:
        array[middle] += 1 if array[middle] < 0 else -1
    return array


def nan(array: np.ndarray) -> np.ndarray:
    """One weight NaN."""
    array.reshape(-1)[0] = np.nan
    return array


def swapped(axis: int) -> Change:
    """Two channels exchanged."""
    return lambda array: np.take(array, [1, 0, *range(2, array.shape[axis])], axis=axis)


def times(factor: float) -> Change:
    """All of it too large."""
    return lambda array: (array * factor).astype(array.dtype)


def onnx_input(node: str, slot: int, value: Any) -> Edit:
    """A node reads another constant there."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{node}:other"))
        next(n for n in model.graph.node if n.name == node).input[slot] = f"{node}:other"

    return edited_onnx(change)


def scale(name: str, factor: float) -> Edit:
    """A TFLite tensor's scales are others."""

    def change(model: Any) -> None:
        (tensor,) = [t for t in model.subgraphs[0].tensors if parse.name_of(t) == name]
        tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * np.float32(factor)

    return edited_tflite(change)


def same_padding(model: Any) -> None:
    """The convolution pads by itself, at the other end, in place of the PAD before it."""
    graph = model.subgraphs[0]
    pad = next(op for op in graph.operators if parse.kind_of(model, op) == "PAD")
    conv = next(op for op in graph.operators if pad.outputs[0] in op.inputs)
    conv.inputs = np.array([pad.inputs[0], *conv.inputs[1:]], np.int32)
    conv.builtinOptions.padding = SAME
    graph.operators.remove(pad)


def no_weights(model: Any) -> None:
    """A convolution without weights, which is read where they would be."""
    conv = next(op for op in model.subgraphs[0].operators if parse.kind_of(model, op) == "CONV_2D")
    conv.inputs = np.array([conv.inputs[0], -1, conv.inputs[2]], np.int32)


def activation(number: int) -> Callable[[Any], None]:
    """Another activation fused."""

    def change(options: Any) -> None:
        options.fusedActivationFunction = number

    return change
