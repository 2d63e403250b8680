"""The zoo: small CNNs whose results can be compared with other people's. Importing this loads no torch."""

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
    """One model of the zoo, as it is without arguments.

    Attributes:
        name: What the user writes.
        module: Where its class is, imported only when it is built.
        class_name: Its class there.
        input_shape: Channels, height and width.
        parameters: How many learned numbers it has.
        macs: Multiplications with addition for one image.
        summary: What it is, in one line.
    """

    name: str
    module: str
    class_name: str
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    summary: str


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
                summary="two convolutions (32 and 64 channels), each with ReLU and pooling, and one linear layer",
            ),
            ZooEntry(
                name="lenet5",
                module="edgecnn.models.lenet5",
                class_name="LeNet5",
                input_shape=(1, 28, 28),
                parameters=61_706,
                macs=416_520,
                summary="LeNet-5 (LeCun et al., 1998) with ReLU and max pooling",
            ),
            ZooEntry(
                name="resnet8",
                module="edgecnn.models.resnet8",
                class_name="ResNet8",
                input_shape=(3, 32, 32),
                parameters=78_186,
                macs=12_501_632,
                summary="the ResNet-8 of MLPerf Tiny's image classification",
            ),
        )
    }
)
"""Every model of the zoo, by name."""


def create_model(name: str, **kwargs: object) -> nn.Module:
    """Build a model of the zoo with fresh random weights, drawn from torch's global generator.

    Args:
        name: One of :data:`ZOO`.
        kwargs: Arguments of its class, such as ``in_channels`` and ``num_classes``.

    Raises:
        ModelError: if there is no such model, or it does not take an argument, or not that value.
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
