"""SqueezeNet."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models.building_blocks import initialise
from edgecnn.models.checked_arguments import positive


class Fire(nn.Module):
    """A fire module: a 1x1 convolution to few channels, then a 1x1 and a 3x3 convolution, concatenated.

    Args:
        inputs: Channels of the input.
        squeeze: Channels between the convolutions.
        expand: Channels of each of the two results.
    """

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, 2 * expand, H, W) for (N, inputs, H, W)."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """A convolution of stride 2, eight fire modules, three max poolings that round up, and a 1x1 convolution.

    Source: Iandola et al., "SqueezeNet", 2016, in the authors' version 1.1. With default arguments: 727,626 parameters,
    42,804,928 MACs for one image of 3x96x96. With ``num_classes=1000, image_size=224`` it has torchvision's 1,235,496
    parameters and 349,151,936 MACs.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits.
        image_size: Height and width that images are brought to, 17 or more. The net takes others too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, image_size: int = 96) -> None:
        positive("squeezenet", in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        if image_size < 17:
            raise ModelError(
                f"squeezenet: nothing is left of {image_size}x{image_size}", hint="an image_size of 17 or more"
            )
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Conv2d(512, num_classes, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, H, W); none is below 0."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits
