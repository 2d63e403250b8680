"""The zoo: small published CNNs, whose results can be compared with others. Importing this loads no torch."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooEntry:
    """A model of the zoo with its default arguments.

    Attributes:
        name: Its name on the command line.
        module: The module of its class, imported only when the model is built.
        class_name: The name of its class.
        input_shape: Channels, height and width of its input.
        parameters: The number of learned parameters.
        macs: Multiply-accumulates for one image.
        data: The shipped data set for ``edgecnn train --data``.
        summary: One line about its structure.
        source: Its authors or origin.
    """

    name: str
    module: str
    class_name: str
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    data: str
    summary: str
    source: str


ZOO: Mapping[str, ZooEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            ZooEntry(
                name="conv_pool",
                module="edgecnn.models.conv_pool",
                class_name="ConvPool",
                input_shape=(1, 28, 28),
                parameters=50_186,
                macs=3_869_824,
                data="digits",
                summary="two convolutions (32 and 64 channels), each with ReLU and pooling, and one linear layer",
                source="torch's and Keras' first MNIST examples",
            ),
            ZooEntry(
                name="lenet5",
                module="edgecnn.models.lenet5",
                class_name="LeNet5",
                input_shape=(1, 28, 28),
                parameters=61_706,
                macs=416_520,
                data="digits",
                summary="LeNet-5 with ReLU and max pooling",
                source="LeCun et al., 1998",
            ),
            ZooEntry(
                name="tiny_vgg",
                module="edgecnn.models.tiny_vgg",
                class_name="TinyVGG",
                input_shape=(3, 64, 64),
                parameters=19_920,
                macs=5_608_780,
                data="digits",
                summary="two blocks of two convolutions, and one linear layer",
                source="CNN Explainer, Wang et al., 2020",
            ),
            ZooEntry(
                name="resnet8",
                module="edgecnn.models.resnet8",
                class_name="ResNet8",
                input_shape=(3, 32, 32),
                parameters=78_186,
                macs=12_501_632,
                data="digits",
                summary="three residual blocks, for image classification",
                source="MLPerf Tiny",
            ),
            ZooEntry(
                name="ds_cnn",
                module="edgecnn.models.ds_cnn",
                class_name="DSCNN",
                input_shape=(1, 49, 10),
                parameters=23_756,
                macs=2_656_768,
                data="digits",
                summary="depthwise separable blocks on a spectrogram, for keyword spotting",
                source="MLPerf Tiny; Zhang et al., 2017",
            ),
            ZooEntry(
                name="mobilenet_v1",
                module="edgecnn.models.mobilenet_v1",
                class_name="MobileNetV1",
                input_shape=(3, 96, 96),
                parameters=216_322,
                macs=7_489_664,
                data="digits",
                summary="depthwise separable blocks at width 0.25, for visual wake words",
                source="MLPerf Tiny; Howard et al., 2017",
            ),
            ZooEntry(
                name="mobilenet_v2",
                module="edgecnn.models.mobilenet_v2",
                class_name="MobileNetV2",
                input_shape=(3, 96, 96),
                parameters=408_938,
                macs=10_666_928,
                data="digits",
                summary="inverted residual blocks at width 0.35",
                source="Sandler et al., 2018",
            ),
            ZooEntry(
                name="mobilenet_v3_small",
                module="edgecnn.models.mobilenet_v3_small",
                class_name="MobileNetV3Small",
                input_shape=(3, 96, 96),
                parameters=1_528_106,
                macs=11_057_600,
                data="digits",
                summary="inverted residual blocks with squeeze-and-excitation and hard swish",
                source="Howard et al., 2019",
            ),
            ZooEntry(
                name="squeezenet",
                module="edgecnn.models.squeezenet",
                class_name="SqueezeNet",
                input_shape=(3, 96, 96),
                parameters=727_626,
                macs=42_804_928,
                data="digits",
                summary="fire modules: a narrow convolution, then two side by side (version 1.1)",
                source="Iandola et al., 2016",
            ),
            ZooEntry(
                name="shufflenet_v2",
                module="edgecnn.models.shufflenet_v2",
                class_name="ShuffleNetV2",
                input_shape=(3, 96, 96),
                parameters=352_042,
                macs=7_256_608,
                data="digits",
                summary="split, shuffled and concatenated channels at width 0.5",
                source="Ma et al., 2018",
            ),
            ZooEntry(
                name="fomo",
                module="edgecnn.models.fomo",
                class_name="FOMO",
                input_shape=(1, 96, 96),
                parameters=19_019,
                macs=5_246_208,
                data="scenes",
                summary="a detector: what is centred in each cell of 8x8 pixels",
                source="Edge Impulse, 2022",
            ),
            ZooEntry(
                name="tiny_unet",
                module="edgecnn.models.tiny_unet",
                class_name="TinyUNet",
                input_shape=(1, 64, 64),
                parameters=121_123,
                macs=36_438_016,
                data="scenes",
                summary="a class for every pixel: three levels down and up again",
                source="Ronneberger et al., 2015",
            ),
        )
    }
)
"""Every model of the zoo, by name."""


def create_model(name: str, **kwargs: object) -> nn.Module:
    """Build a model of the zoo with random weights from torch's global generator.

    Args:
        name: A key of :data:`ZOO`.
        kwargs: Arguments of its class, such as ``in_channels`` and ``num_classes``.

    Raises:
        ModelError: if there is no such model, or it does not accept an argument or its value.
    """
    if name not in ZOO:
        raise ModelError(f"there is no model {name!r} in the zoo", hint=_names_like(name))
    entry = ZOO[name]
    kind = getattr(importlib.import_module(entry.module), entry.class_name)
    accepted = list(inspect.signature(kind).parameters)
    wrong = sorted(set(kwargs) - set(accepted))
    if wrong:
        raise ModelError(
            f"{name} takes no argument {', '.join(wrong)}",
            where=f"{entry.module}.{entry.class_name}",
            hint=_near(wrong[0], accepted) + f"it takes {', '.join(accepted)}",
        )
    model: nn.Module = kind(**kwargs)
    return model


def _names_like(name: str) -> str:
    return _near(name, list(ZOO)) + f"the zoo has {', '.join(ZOO)}"


def _near(word: str, possible: list[str]) -> str:
    near = difflib.get_close_matches(word, possible, n=1)
    return f"{near[0]}? " if near else ""
