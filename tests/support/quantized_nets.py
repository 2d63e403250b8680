"""A small net with a residual block, seeded samples, and how a module is quantized on them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.observe import Observer, observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize
from edgecnn.quantize.recipe import RECIPES, Recipe

SHAPE = (2, 8, 8)


class Net(nn.Module):
    """A residual block, a concatenation, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.side = nn.Conv2d(8, 4, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(12 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = (x + 0.3 * self.body(x)).relu()
        x = torch.cat([x, self.side(x)], 1)
        return self.head(self.pool(x).flatten(1))


def samples(count: int = 32, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Normally distributed inputs, (count, *shape)."""
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def made(module: nn.Module, recipe: Recipe = RECIPES["int8"], x: np.ndarray | None = None) -> QuantizedGraph:
    """A module quantized by a recipe on samples."""
    x = samples() if x is None else x
    graph = prepare(capture(module.eval(), [torch.zeros(1, *x.shape[1:])]))
    return quantize(graph, observe(graph, [[x]]), recipe)


def observer(*batches: np.ndarray) -> Observer:
    """An observer that has seen batches."""
    seen = Observer()
    for batch in batches:
        seen.add(np.asarray(batch, np.float32))
    return seen
