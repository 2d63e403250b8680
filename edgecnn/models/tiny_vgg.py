"""TinyVGG."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models.building_blocks import initialise
from edgecnn.models.checked_arguments import positive


class TinyVGG(nn.Module):
    """Two blocks of two unpadded 3x3 convolutions with ReLU and max pooling, and one linear layer.

    Source: CNN Explainer (Wang et al., 2020, poloclub.github.io/cnn-explainer), the net that courses build after VGG.
    With default arguments: 19,920 parameters, 5,608,780 MACs for one image of 3x64x64.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits.
        hidden: Channels of every convolution.
        image_size: Height and width of the image, 16 or more.

    Raises:
        ModelError: if an argument has an impossible value, or the blocks leave nothing of the image.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, hidden: int = 10, image_size: int = 64) -> None:
        positive("tiny_vgg", in_channels=in_channels, num_classes=num_classes, hidden=hidden, image_size=image_size)
        if image_size < 16:
            raise ModelError(
                f"tiny_vgg: two blocks leave nothing of {image_size}x{image_size}", hint="an image_size of 16 or more"
            )
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        side = ((image_size - 4) // 2 - 4) // 2
        self.block1 = _block(in_channels, hidden)
        self.block2 = _block(hidden, hidden)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(hidden * side * side, num_classes))
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, H, W)."""
        logits: torch.Tensor = self.classifier(self.block2(self.block1(x)))
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.Conv2d(outputs, outputs, 3), nn.ReLU(), nn.MaxPool2d(2)
    )
