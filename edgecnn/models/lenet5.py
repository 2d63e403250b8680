"""LeNet-5."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.models.checked_arguments import positive


class LeNet5(nn.Module):
    """LeNet-5 as it is built today: ReLU for tanh, max pooling for trained subsampling, logits for radial units.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998. The first
    convolution pads by 2, so that 28x28 images give what the paper's 32x32 gave. With default arguments: 61,706
    parameters, 416,520 MACs for one image of 1x28x28.

    Args:
        in_channels: Channels of the image, which is 28x28.
        num_classes: Number of logits.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        positive("lenet5", in_channels=in_channels, num_classes=num_classes)
        super().__init__()
        self.input_shape = (in_channels, 28, 28)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, 28, 28)."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits
