"""ShuffleNetV2."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models.building_blocks import conv_bn, initialise, settle
from edgecnn.models.checked_arguments import positive

_CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""Table 5 of the paper: channels of the three stages and of the last convolution, by width."""
_BLOCKS = (4, 8, 4)


class ShuffleUnit(nn.Module):
    """Passes half of the channels through, convolves the other half, and interleaves the channels of both halves.

    Args:
        channels: Channels of the input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = _branch(half, half, stride=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The result, in the shape of ``x``."""
        passed, worked = x.chunk(2, dim=1)
        return shuffle(torch.cat([passed, self.branch(worked)], dim=1))


class ShuffleDown(nn.Module):
    """Computes both halves of the result from all channels with stride 2, and interleaves their channels.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.shortcut = nn.Sequential(
            conv_bn(inputs, inputs, 3, stride=2, groups=inputs), conv_bn(inputs, half, 1, nn.ReLU())
        )
        self.branch = _branch(inputs, half, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, outputs, H / 2, W / 2) for (N, inputs, H, W)."""
        return shuffle(torch.cat([self.shortcut(x), self.branch(x)], dim=1))


class ShuffleNetV2(nn.Module):
    """A convolution of stride 2, max pooling, three stages of shuffled units, a 1x1 convolution, one linear layer.

    Source: Ma et al., "ShuffleNet V2", 2018, with a width of 0.5. With default arguments: 352,042 parameters, 7,256,608
    MACs for one image of 3x96x96. With ``num_classes=1000, image_size=224`` it has torchvision's 1,366,792 parameters
    and 40,476,448 MACs (the paper says 1.4 and 41 million).

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits.
        width: 0.5, 1.0, 1.5 or 2.0, as in the paper's table 5.
        image_size: Height and width of the declared input; the net accepts others too.

    Raises:
        ModelError: if an argument has an impossible value.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: float = 0.5, image_size: int = 96) -> None:
        positive("shufflenet_v2", in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        if isinstance(width, bool) or width not in _CHANNELS:
            raise ModelError(f"shufflenet_v2: width={width!r} is not possible", hint="0.5, 1.0, 1.5 or 2.0")
        super().__init__()
        self.input_shape = (in_channels, image_size, image_size)
        *stages, last = _CHANNELS[width]
        self.stem = nn.Sequential(conv_bn(in_channels, 24, 3, nn.ReLU(), stride=2), nn.MaxPool2d(3, 2, padding=1))
        units: list[nn.Module] = []
        inputs = 24
        for outputs, count in zip(stages, _BLOCKS, strict=True):
            units += [ShuffleDown(inputs, outputs), *(ShuffleUnit(outputs) for _ in range(count - 1))]
            inputs = outputs
        self.stages = nn.Sequential(*units)
        self.head = conv_bn(inputs, last, 1, nn.ReLU())
        self.classifier = nn.Linear(last, num_classes)
        initialise(self)
        settle(self, self.input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, num_classes) for images of shape (N, C, H, W)."""
        x = self.head(self.stages(self.stem(x)))
        logits: torch.Tensor = self.classifier(x.mean([2, 3]))
        return logits


def shuffle(x: torch.Tensor) -> torch.Tensor:
    """The channels of both halves interleaved: 0, n/2, 1, n/2 + 1 and so on."""
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def _branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn(inputs, outputs, 1, nn.ReLU()),
        conv_bn(outputs, outputs, 3, stride=stride, groups=outputs),
        conv_bn(outputs, outputs, 1, nn.ReLU()),
    )
