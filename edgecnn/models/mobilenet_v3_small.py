"""MobileNetV3-Small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from edgecnn.models.building_blocks import check_width, conv_bn, initialise, scaled, settle
from edgecnn.models.checked_arguments import positive


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the paper's table 2, with channels at width 1."""

    kernel: int
    hidden: int
    outputs: int
    squeezes: bool
    activation: type[nn.Module]
    stride: int


_ROWS = (
    _Row(3, 16, 16, True, nn.ReLU, 2),
    _Row(3, 72, 24, False, nn.ReLU, 2),
    _Row(3, 88, 24, False, nn.ReLU, 1),
    _Row(5, 96, 40, True, nn.Hardswish, 2),
    _Row(5, 240, 40, True, nn.Hardswish, 1),
    _Row(5, 240, 40, True, nn.Hardswish, 1),
    _Row(5, 120, 48, True, nn.Hardswish, 1),
    _Row(5, 144, 48, True, nn.Hardswish, 1),
    _Row(5, 288, 96, True, nn.Hardswish, 2),
    _Row(5, 576, 96, True, nn.Hardswish, 1),
    _Row(5, 576, 96, True, nn.Hardswish, 1),
)


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation: scales each channel by a factor from 0 to 1 that depends on the means of all channels.

    Args:
        channels: Channels of the input and output.
        hidden: Channels between the convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.factors = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The scaled channels, in the shape of ``x``."""
        y: torch.Tensor = x * self.factors(x)
        return y


class _Block(nn.Module):
    """An inverted residual block with squeeze-and-excitation after its depthwise convolution."""

    def __init__(self, inputs: int, row: _Row, width: float) -> None:
        super().__init__()
        hidden, outputs = scaled(row.hidden * width), scaled(row.outputs * width)
        self.shortcut = row.stride == 1 and inputs == outputs
        self.expand = nn.Identity() if hidden == inputs else conv_bn(inputs, hidden, 1, row.activation())
        self.depthwise = conv_bn(hidden, hidden, row.kernel, row.activation(), stride=row.stride, groups=hidden)
        self.squeeze = SqueezeExcitation(hidden, scaled(hidden // 4)) if row.squeezes else nn.Identity()
        self.project = conv_bn(hidden, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.shortcut else y


class MobileNetV3Small(nn.Module):
    """Eleven inverted residual blocks, most with squeeze-and-excitation and hard swish, and two linear layers.

    Source: Howard et al., "Searching for MobileNetV3", 2019, table 2. With default arguments: 1,528,106 parameters,
    11,057,600 MACs for one image of 3x96x96. With ``num_classes=1000, image_size=224`` it has torchvision's 2,542,856
    parameters and 56,510,400 MACs (the paper says 2.5 and 56 million).

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits.
        width: Multiplies all channels; 1 is the paper's.
        image_size: Height and width of the declared input; the net accepts others too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: float = 1.0, image_size: int = 96) -> None:
        positive("mobilenet_v3_small", in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        width = check_width("mobilenet_v3_small", width)
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        channels = scaled(16 * width)
        self.stem = conv_bn(in_channels, channels, 3, nn.Hardswish(), stride=2)
        blocks = []
        for row in _ROWS:
            blocks.append(_Block(channels, row, width))
            channels = scaled(row.outputs * width)
        self.blocks = nn.Sequential(*blocks)
        self.head = conv_bn(channels, 6 * channels, 1, nn.Hardswish())
        self.pool = nn.AdaptiveAvgPool2d(1)
        last = scaled(1024 * width)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(6 * channels, last),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(last, num_classes),
        )
        initialise(self)
        settle(self, self.input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, H, W)."""
        logits: torch.Tensor = self.classifier(self.pool(self.head(self.blocks(self.stem(x)))))
        return logits
