"""MobileNetV2."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.models.building_blocks import check_width, conv_bn, initialise, scaled, settle
from edgecnn.models.checked_arguments import positive

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of the paper: expansion, channels at width 1, blocks, stride of the first of them."""


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a depthwise 3x3 convolution, and a 1x1 projection; with a shortcut if shapes agree.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Stride of the depthwise convolution.
        expansion: Factor of the channels in between; 1 leaves the first convolution out.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.expand = nn.Identity() if expansion == 1 else conv_bn(inputs, hidden, 1, nn.ReLU6())
        self.depthwise = conv_bn(hidden, hidden, 3, nn.ReLU6(), stride=stride, groups=hidden)
        self.project = conv_bn(hidden, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, outputs, H / stride, W / stride) for (N, inputs, H, W)."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """A convolution of stride 2, seventeen inverted residual blocks, a 1x1 convolution, pooling, one linear layer.

    Source: Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", 2018, with a width of 0.35 and
    images of 96x96, the smallest that pretrained weights are published for. With default arguments: 408,938 parameters,
    10,666,928 MACs for one image of 3x96x96. With ``width=1, num_classes=1000, image_size=224`` it has torchvision's
    3,504,872 parameters and 300,774,272 MACs (the paper says 3.4 and 300 million).

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits.
        width: Multiplies all channels; 1 is the paper's.
        image_size: Height and width of the declared input; the net accepts others too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: float = 0.35, image_size: int = 96) -> None:
        positive("mobilenet_v2", in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        width = check_width("mobilenet_v2", width)
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        self.stem = conv_bn(in_channels, scaled(32 * width), 3, nn.ReLU6(), stride=2)
        self.blocks = inverted_residuals(len(STAGES), width)
        last = scaled(1280 * max(1.0, width))
        self.head = conv_bn(scaled(320 * width), last, 1, nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, num_classes))
        initialise(self)
        settle(self, self.input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, H, W)."""
        logits: torch.Tensor = self.classifier(self.pool(self.head(self.blocks(self.stem(x)))))
        return logits


def inverted_residuals(stages: int, width: float) -> nn.Sequential:
    """The blocks of the first stages."""
    blocks = []
    channels = scaled(32 * width)
    for expansion, outputs, count, stride in STAGES[:stages]:
        for i in range(count):
            blocks.append(InvertedResidual(channels, scaled(outputs * width), stride if i == 0 else 1, expansion))
            channels = scaled(outputs * width)
    return nn.Sequential(*blocks)
