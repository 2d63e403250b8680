"""MobileNetV1 of MLPerf Tiny."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.models.building_blocks import check_width, conv_bn, initialise, settle
from edgecnn.models.checked_arguments import positive

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels at width 1, and stride, of each depthwise separable block."""


class MobileNetV1(nn.Module):
    """A convolution of stride 2, thirteen depthwise separable blocks, global average pooling, one linear layer.

    Source: Howard et al., "MobileNets", 2017, in the variant of MLPerf Tiny for visual wake words (``vww_model`` of
    mlcommons/tiny): a quarter of the channels, images of 96x96, biases in addition to batch norms, ReLU; the original
    is in Keras with a softmax. With default arguments: 216,322 parameters (Keras counts 221,794, because it adds batch
    norm's 5,472 running means and variances), 7,489,664 MACs for one image of 3x96x96. The convolutions of stride 2 pad
    symmetrically, as torch does; Keras pads them at the bottom and right only.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits: person or no person.
        width: Multiplies all channels; 1 is the paper's.
        image_size: Height and width of the declared input; the net accepts others too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 2, width: float = 0.25, image_size: int = 96) -> None:
        positive("mobilenet_v1", in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        width = check_width("mobilenet_v1", width)
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        channels = max(1, int(32 * width))
        self.stem = conv_bn(in_channels, channels, 3, nn.ReLU(), stride=2, bias=True)
        blocks = []
        for outputs, stride in _BLOCKS:
            blocks.append(_separable(channels, max(1, int(outputs * width)), stride))
            channels = max(1, int(outputs * width))
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(channels, num_classes))
        initialise(self)
        settle(self, self.input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, H, W)."""
        logits: torch.Tensor = self.classifier(self.pool(self.blocks(self.stem(x))))
        return logits


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn(inputs, inputs, 3, nn.ReLU(), stride=stride, groups=inputs, bias=True),
        conv_bn(inputs, outputs, 1, nn.ReLU(), bias=True),
    )
