"""Small nets with seeded weights."""

from __future__ import annotations

import torch
from torch import nn


def small_net(classes=10, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1))
        return nn.Sequential(*conv, nn.Flatten(), nn.Linear(288, classes))
