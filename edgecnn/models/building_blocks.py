"""Building blocks that several models of the zoo share."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgecnn.errors import ModelError


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    activation: nn.Module | None = None,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """A convolution padded by half its kernel, a batch norm, and the activation if there is one."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation]))


def scaled(channels: float, divisor: int = 8) -> int:
    """Channels rounded as in MobileNets: to a multiple of ``divisor``, never down by more than a tenth."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def check_width(model: str, width: object) -> float:
    """The width multiplier as a float.

    Raises:
        ModelError: if it is not a number above 0 and up to 4.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 4:
        raise ModelError(f"{model}: width={width!r} is not possible", hint="a number above 0 and up to 4, such as 0.5")
    return float(width)


def initialise(model: nn.Module) -> None:
    """Initialise convolutions so that the magnitude of values is preserved through the net.

    He et al., "Delving deep into rectifiers", 2015, by fan-in. With fan-out, as is common, the result of a depthwise
    convolution would be smaller by its number of channels, and that of a deep net almost 0.

    Args:
        model: The model. Weights of its convolutions are drawn from torch's global generator; biases become 0.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / _fan_in(layer)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def settle(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Set the variance of each batch norm to the mean square of its input on blurred noise, over all channels.

    This preserves the magnitude of values through a deep net that has not been trained. A mean and variance for each
    channel, as in training, would make a net with random weights chaotic: it would multiply float32 rounding errors by
    up to a hundred.

    Args:
        model: A new model, which stays in training mode. Images are drawn from torch's global generator.
        input_shape: Channels, height and width of its input.
    """

    def divide_by_size(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        norm.running_var.fill_(inputs[0].square().mean())

    channels, height, width = input_shape
    images = nn.functional.interpolate(torch.rand(8, channels, 6, 6), size=(height, width), mode="bilinear")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(divide_by_size) for norm in norms]
    with torch.no_grad():
        model.eval()(images)
    model.train()
    for handle in handles:
        handle.remove()


def _fan_in(layer: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """The number of products that are summed for one element of the result."""
    products = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    return products / math.prod(layer.stride) if isinstance(layer, nn.ConvTranspose2d) else products
