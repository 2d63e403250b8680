"""The zoo."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models import ZOO, create_model


def macs(model, shape):
    """Multiplications with addition of all convolutions and linear layers, for one image."""
    total = 0

    def count(layer, _, output):
        nonlocal total
        total += output[0].numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model.eval()(torch.zeros(1, *shape))
    return total


@pytest.mark.parametrize("name", ZOO)
def test_table_is_true(name):
    entry, model = ZOO[name], create_model(name)
    assert entry.name == name
    assert entry.summary
    assert model.input_shape == entry.input_shape
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    assert macs(model, entry.input_shape) == entry.macs
    said = type(model).__doc__
    assert f"{entry.parameters:,} parameters" in " ".join(said.split())
    assert f"{entry.macs:,} MACs" in " ".join(said.split())


def test_resnet8_has_the_references_numbers():
    model = create_model("resnet8")
    running = sum(b.numel() for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var")))
    assert sum(p.numel() for p in model.parameters()) + running == 78_666


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("conv_pool", {}, (1, 28, 28)),
        ("conv_pool", {"pooling": "avg", "in_channels": 3, "image_size": 33, "num_classes": 4}, (3, 33, 33)),
        ("conv_pool", {"pool_size": 3}, (1, 28, 28)),
        ("lenet5", {"in_channels": 2, "num_classes": 4}, (2, 28, 28)),
        ("resnet8", {"in_channels": 1}, (1, 32, 32)),
        ("resnet8", {"image_size": 48, "num_classes": 4}, (3, 48, 48)),
    ],
)
def test_arguments(name, arguments, shape):
    model = create_model(name, **arguments)
    assert model.input_shape == shape
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, arguments.get("num_classes", 10))


def test_conv_pool_is_the_net_that_its_docstring_says():
    kinds = [type(layer).__name__ for layer in create_model("conv_pool")]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"]
    assert isinstance(create_model("conv_pool", pooling="avg")[2], nn.AvgPool2d)


@pytest.mark.parametrize(
    ("name", "arguments", "said", "hint"),
    [
        ("lenet", {}, "no model 'lenet'", "lenet5? the zoo has conv_pool, lenet5, resnet8"),
        ("lenet5", {"classes": 3}, "takes no argument classes", "it takes in_channels, num_classes"),
        ("conv_pool", {"in_channel": 3}, "takes no argument in_channel", "in_channels? "),
        ("conv_pool", {"pooling": "mean"}, "no pooling 'mean'", "max or avg"),
        ("conv_pool", {"pool_size": 6}, "leaves nothing", "36 or more"),
        ("conv_pool", {"in_channels": 0}, "in_channels=0 is not possible", "1 or more"),
        ("lenet5", {"num_classes": "ten"}, "num_classes='ten'", "1 or more"),
        ("resnet8", {"in_channels": True}, "in_channels=True", "1 or more"),
    ],
)
def test_refused(name, arguments, said, hint):
    with pytest.raises(ModelError, match=said) as caught:
        create_model(name, **arguments)
    assert hint in caught.value.hint


def test_the_table_loads_no_torch():
    code = "import sys, edgecnn.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
