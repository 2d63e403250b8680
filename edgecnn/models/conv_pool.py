"""The net of most introductory tutorials."""

from __future__ import annotations

from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models.checked_arguments import positive

_POOLINGS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


class ConvPool(nn.Sequential):
    """Two convolutions, each with ReLU and pooling, and one linear layer.

    Source: the architecture of the first MNIST examples of torch and Keras: 32 and 64 channels, 3x3 kernels, pooling by
    2. With default arguments: 50,186 parameters, 3,869,824 MACs for one image of 1x28x28.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of logits.
        pooling: "max" or "avg".
        pool_size: Kernel and stride of both poolings.
        image_size: Height and width of the image.

    Raises:
        ModelError: if an argument has an impossible value, or the poolings leave nothing of the image.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        pooling: str = "max",
        pool_size: int = 2,
        image_size: int = 28,
    ) -> None:
        positive(
            "conv_pool",
            in_channels=in_channels,
            num_classes=num_classes,
            pool_size=pool_size,
            image_size=image_size,
        )
        if pooling not in _POOLINGS:
            raise ModelError(f"conv_pool: there is no pooling {pooling!r}", hint=" or ".join(_POOLINGS))
        side = image_size // pool_size // pool_size
        if side == 0:
            raise ModelError(
                f"conv_pool: pooling {image_size}x{image_size} by {pool_size} twice leaves nothing",
                hint=f"an image_size of {pool_size**2} or more, or a smaller pool_size",
            )
        pool = _POOLINGS[pooling]
        super().__init__(
            nn.Conv2d(in_channels, 32, 3, padding=1),
            nn.ReLU(),
            pool(pool_size),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            pool(pool_size),
            nn.Flatten(),
            nn.Linear(64 * side * side, num_classes),
        )
        self.input_shape = (in_channels, image_size, image_size)
