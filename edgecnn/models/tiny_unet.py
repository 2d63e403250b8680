"""A small U-Net."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models.building_blocks import conv_bn, initialise, settle
from edgecnn.models.checked_arguments import positive

_LEVELS = 3


class TinyUNet(nn.Module):
    """Three levels down by max pooling, three up by transposed convolution, each joined with its like from before.

    Source: Ronneberger, Fischer, Brox, "U-Net", 2015, with padded convolutions, batch norms, three levels for four and
    8 channels for 64. With default arguments: 121,123 parameters, 36,438,016 MACs for one image of 1x64x64. Class 0 is
    background. ``edgecnn train --data scenes`` trains it.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes of objects, without the background.
        base: Channels of the first level; each level further down has twice as many.
        image_size: Height and width that images are brought to, a multiple of 8. The net takes other such sizes too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10, base: int = 8, image_size: int = 64) -> None:
        positive("tiny_unet", in_channels=in_channels, num_classes=num_classes, base=base, image_size=image_size)
        if image_size % 2**_LEVELS:
            raise ModelError(f"tiny_unet: image_size={image_size} is not possible", hint=f"a multiple of {2**_LEVELS}")
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        widths = [base * 2**level for level in range(_LEVELS + 1)]
        inputs = [in_channels, *widths]
        self.down = nn.ModuleList(_double(i, o) for i, o in zip(inputs, widths[:-1], strict=False))
        self.pool = nn.MaxPool2d(2)
        self.bottom = _double(widths[-2], widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(_double(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(base, num_classes + 1, 1)
        initialise(self)
        settle(self, self.input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes + 1, H, W) for images of shape (N, C, H, W)."""
        before = []
        for down in self.down:
            x = down(x)
            before.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([before.pop(), up(x)], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(inputs, outputs, 3, nn.ReLU()), conv_bn(outputs, outputs, 3, nn.ReLU()))
