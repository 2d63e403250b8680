"""Cases that only quantization makes corners of: they run in int8 besides the rows of the operator table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cases import Case
from cases.base import conv, linear, seq

INT8_CORNERS: tuple[Case, ...] = (
    Case("cat of a sigmoid and an image", seq(lambda x: torch.cat([x.sigmoid(), x], 1), conv(6, 4, 3))),
    Case("cat of a sigmoid and a tanh", seq(lambda x: torch.cat([x.sigmoid(), x.tanh()], 1))),
    Case("cat of sigmoids", seq(lambda x: torch.cat([x.sigmoid(), (x * 0.5).sigmoid()], 1))),
    Case("cat of a pooled softmax", seq(lambda x: torch.cat([F.max_pool2d(x.softmax(1), 2), F.max_pool2d(x, 2)], 1))),
    Case("cat of a cat", seq(lambda x: torch.cat([torch.cat([x.sigmoid(), x], 1), x * 3], 1))),
    Case("clamp above 0", seq(lambda x: x.clamp(0.4, 0.9))),
    Case("clamp below 0", seq(lambda x: x.clamp(-0.9, -0.4))),
    Case("clamp beyond the range", seq(lambda x: x.clamp(-50.0, 60.0))),
    Case("clamp to one value", seq(lambda x: x.clamp(-0.5, -0.5))),
    Case("divisors per channel", seq(lambda x: x / torch.tensor([0.5, -2.0, 3.0])[:, None, None])),
    Case("number divided by x", seq(lambda x: x / 7, lambda x: F.relu(x / 0.01))),
    Case("linear on the last axis of features", seq(linear(8, 5), nn.ReLU6()), ((4, 8),)),
    Case("linear on the last axis, twice", seq(linear(8, 6), nn.ReLU(), linear(6, 3)), ((3, 4, 8),)),
    Case("grouped convolution, many groups", seq(conv(12, 12, 3, padding=1, groups=4), nn.ReLU()), ((12, 8, 8),)),
    Case("mean kept, then scaled", seq(lambda x: x * x.mean((2, 3), keepdim=True))),
    Case("whole average pool", seq(nn.AvgPool2d((9, 8)), conv(3, 4, 1))),
    Case("convolution of negatives", seq(lambda x: -3 - x.relu(), conv(3, 4, 3, padding=1))),
)
"""What only quantization makes a corner of."""
