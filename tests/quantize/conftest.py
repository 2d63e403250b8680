"""The net that most of these tests quantize."""

from __future__ import annotations

import pytest
import torch
from support.quantized_nets import Net
from torch import nn


@pytest.fixture(scope="session")
def net() -> nn.Module:
    torch.manual_seed(3)
    return Net().eval()
