"""The DS-CNN of MLPerf Tiny."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models.building_blocks import conv_bn, initialise, settle
from edgecnn.models.checked_arguments import positive


class DSCNN(nn.Module):
    """A 10x4 convolution of stride 2, four depthwise separable blocks of 64 channels, average pooling, a linear layer.

    Source: MLPerf Tiny, keyword spotting (``ds_cnn`` of mlcommons/tiny), after Zhang et al., "Hello Edge", 2017; there
    in Keras and with softmax. The image is a spectrogram of 49 time steps with 10 coefficients each. With default
    arguments: 23,756 parameters (Keras counts 24,908, because it adds batch norm's 1,152 running means and variances),
    2,656,768 MACs for one image of 1x49x10. The first convolution pads 5 rows at the top and at the bottom; Keras pads
    4 and 5. The pooling's window is half the input, rounded down, as in the source: of 25 rows it reads 24.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits.
        height: Rows of the image: time steps.
        width: Columns of the image: coefficients.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 12, height: int = 49, width: int = 10) -> None:
        positive("ds_cnn", in_channels=in_channels, num_classes=num_classes, height=height, width=width)
        if height < 4 or width < 2:
            raise ModelError(f"ds_cnn: {height}x{width} is too small", hint="a height of 4 and a width of 2, or more")
        super().__init__()
        self.input_shape = (in_channels, height, width)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 64, (10, 4), stride=2, padding=(5, 1)),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Dropout(0.2),
        )
        self.blocks = nn.Sequential(*(_separable() for _ in range(4)))
        self.pool = nn.AvgPool2d((height // 2, width // 2))
        self.classifier = nn.Sequential(nn.Dropout(0.4), nn.Flatten(), nn.Linear(64, num_classes))
        initialise(self)
        settle(self, self.input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, height, width)."""
        logits: torch.Tensor = self.classifier(self.pool(self.blocks(self.stem(x))))
        return logits


def _separable() -> nn.Sequential:
    return nn.Sequential(conv_bn(64, 64, 3, nn.ReLU(), groups=64, bias=True), conv_bn(64, 64, 1, nn.ReLU(), bias=True))
