"""A detector of object centres."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.models.building_blocks import check_width, conv_bn, initialise, scaled, settle
from edgecnn.models.checked_arguments import positive
from edgecnn.models.mobilenet_v2 import inverted_residuals

_STAGES = 3
"""Stages of MobileNetV2, down to an eighth of the image's size."""


class FOMO(nn.Module):
    """A truncated MobileNetV2 and a head of two 1x1 convolutions: for every cell of 8x8 pixels, what is centred there.

    Source: Edge Impulse's "Faster objects, more objects", 2022: MobileNetV2 at width 0.35, cut after the expansion of
    its sixth block. With default arguments: 19,019 parameters, 5,246,208 MACs for one image of 1x96x96. Class 0 is
    background. ``edgecnn train --data scenes`` trains it.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes of objects, without the background.
        width: Multiplies the backbone's channels.
        image_size: Height and width of the declared input; the net accepts others too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10, width: float = 0.35, image_size: int = 96) -> None:
        positive("fomo", in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        width = check_width("fomo", width)
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        self.stem = conv_bn(in_channels, scaled(32 * width), 3, nn.ReLU6(), stride=2)
        self.blocks = inverted_residuals(_STAGES, width)
        channels = scaled(32 * width)
        self.expand = conv_bn(channels, 6 * channels, 1, nn.ReLU6())
        self.head = nn.Sequential(
            nn.Conv2d(6 * channels, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, num_classes + 1, 1),
        )
        initialise(self)
        settle(self, self.input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes + 1, H / 8, W / 8) for images of shape (N, C, H, W)."""
        logits: torch.Tensor = self.head(self.expand(self.blocks(self.stem(x))))
        return logits
