"""The ResNet-8 of MLPerf Tiny."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.models.checked_arguments import positive


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut, which is a 1x1 convolution if the stride is 2.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Stride of the first convolution and the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, outputs, H / stride, W / stride) for (N, inputs, H, W)."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: torch.Tensor = self.relu(self.shortcut(x) + y)
        return out


class ResNet8(nn.Module):
    """A convolution, three residual blocks of 16, 32 and 64 channels, global average pooling, one linear layer.

    Source: MLPerf Tiny, image classification (``resnet_v1_eembc`` of mlcommons/tiny), originally in Keras with softmax.
    With default arguments: 78,186 parameters (Keras counts 78,666, because it adds batch norm's 480 running means and
    variances), 12,501,632 MACs for one image of 3x32x32. The convolutions of stride 2 pad symmetrically, as torch does;
    Keras pads them at the bottom and right only, so that its trained weights do not give the same results here.

    Args:
        in_channels: Channels of the image: 1 for grey images, as in the digits.
        num_classes: Number of logits.
        image_size: Height and width of the declared input; the net accepts others too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, image_size: int = 32) -> None:
        positive("resnet8", in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.stack1 = ResidualBlock(16, 16, 1)
        self.stack2 = ResidualBlock(16, 32, 2)
        self.stack3 = ResidualBlock(32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(64, num_classes)
        _initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, H, W)."""
        x = self.relu(self.bn(self.conv(x)))
        x = self.stack3(self.stack2(self.stack1(x)))
        logits: torch.Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits


def _initialise(module: nn.Module) -> None:
    """He initialisation, as in the reference; torch's default is meant for narrower layers without shortcuts."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
