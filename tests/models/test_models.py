"""The zoo."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import edgecnn
from edgecnn.data.calibration import of_samples
from edgecnn.data.sources import load_dataset
from edgecnn.errors import ModelError
from edgecnn.exporting.capture_check import capture_model
from edgecnn.graph.analysis import analyse
from edgecnn.models import ZOO, create_model

SMALL = {
    "tiny_vgg": {"image_size": 32},
    "mobilenet_v1": {"image_size": 32},
    "mobilenet_v2": {"image_size": 32},
    "mobilenet_v3_small": {"image_size": 32, "width": 0.35},
    "squeezenet": {"image_size": 32},
    "shufflenet_v2": {"image_size": 32},
    "fomo": {"image_size": 32},
    "tiny_unet": {"image_size": 32, "base": 4},
}
"""Arguments for exports that take a second: every layer is there, images and widths are smaller."""


def macs(model, shape):
    """Multiplications with addition of all convolutions and linear layers, for one image."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        value = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += value[0].numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(count)
    model.eval()(torch.zeros(1, *shape))
    return total


def images(shape, count=8):
    """Digits in a model's shape."""
    data = load_dataset("digits", input_shape=(1, *shape[1:]), split="train")
    return np.repeat(data.batch(data.spread(count)), shape[0], axis=1)


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


@pytest.mark.parametrize(
    ("name", "total"),
    [("resnet8", 78_666), ("ds_cnn", 24_908), ("mobilenet_v1", 221_794)],
)
def test_mlperf_tiny_counts_the_same(name, total):
    """Keras counts running means and variances with the parameters."""
    model = create_model(name)
    running = sum(b.numel() for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var")))
    assert sum(p.numel() for p in model.parameters()) + running == total


@pytest.mark.parametrize(
    ("name", "arguments", "parameters", "millions"),
    [
        ("mobilenet_v2", {"width": 1}, 3_504_872, 300),
        ("mobilenet_v3_small", {}, 2_542_856, 56),
        ("squeezenet", {}, 1_235_496, 349),
        ("shufflenet_v2", {}, 1_366_792, 41),
        ("shufflenet_v2", {"width": 1.0}, 2_278_604, 146),
    ],
)
def test_as_wide_as_the_papers_it_has_torchvisions_parameters_and_the_papers_macs(
    name, arguments, parameters, millions
):
    model = create_model(name, num_classes=1000, image_size=224, **arguments)
    assert sum(p.numel() for p in model.parameters()) == parameters
    counted = macs(model, model.input_shape)
    assert counted == pytest.approx(millions * 1e6, rel=0.02)
    said = " ".join(type(model).__doc__.split())
    assert name != "mobilenet_v2" or f"{counted:,} MACs" in said
    assert arguments or f"{counted:,} MACs" in said


def test_tiny_vgg_leaves_what_cnn_explainer_says():
    assert create_model("tiny_vgg").classifier[1].in_features == 13 * 13 * 10


@pytest.mark.parametrize("name", ZOO)
def test_random_weights_neither_vanish_nor_explode_and_tell_images_apart(name):
    torch.manual_seed(0)
    model = create_model(name).eval()
    with torch.no_grad():
        y = model(torch.from_numpy(images(model.input_shape))).flatten(1)
    assert 0.01 < float(y.std()) < 10
    assert float(y.std(0).mean()) > 0.01 * float(y.abs().max())


@pytest.mark.parametrize("name", ZOO)
def test_exports_in_both_formats_fp32_and_int8(name, tmp_path, here):
    torch.manual_seed(0)
    model = create_model(name, **SMALL.get(name, {})).eval()
    x = images(model.input_shape)
    bundle = edgecnn.export_model(
        model, torch.from_numpy(x[:1]), tmp_path / name, precisions=["fp32", "int8"], calibration=of_samples((x,), "x")
    )
    report = edgecnn.check_bundle(bundle, targets=here)
    failed = {v.artifact: v.reason for v in report.verdicts if not v.passed}
    assert len(report.verdicts) >= 4
    assert {v.lsb_max for v in report.verdicts if v.artifact.endswith("int8.tflite")} == {0}
    assert not failed
    for precision in ("fp32", "int8"):
        assert "TRANSPOSE" not in bundle.artifact("tflite", precision).operators


@pytest.mark.parametrize("name", ["tiny_vgg", "ds_cnn", "mobilenet_v1", "fomo", "tiny_unet"])
def test_show_counts_the_same_macs(name):
    model = create_model(name).eval()
    graph, _ = capture_model(model, torch.zeros(1, *model.input_shape))
    assert analyse(graph).macs == ZOO[name].macs


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("conv_pool", {}, (1, 28, 28)),
        ("conv_pool", {"pooling": "avg", "in_channels": 3, "image_size": 33, "num_classes": 4}, (3, 33, 33)),
        ("conv_pool", {"pool_size": 3}, (1, 28, 28)),
        ("lenet5", {"in_channels": 2, "num_classes": 4}, (2, 28, 28)),
        ("resnet8", {"in_channels": 1}, (1, 32, 32)),
        ("resnet8", {"image_size": 48, "num_classes": 4}, (3, 48, 48)),
        ("tiny_vgg", {"in_channels": 1, "hidden": 4, "image_size": 16, "num_classes": 4}, (1, 16, 16)),
        ("ds_cnn", {"height": 4, "width": 2, "num_classes": 4}, (1, 4, 2)),
        ("ds_cnn", {"height": 48, "width": 11, "in_channels": 2, "num_classes": 4}, (2, 48, 11)),
        ("mobilenet_v1", {"width": 0.01, "image_size": 40, "num_classes": 4}, (3, 40, 40)),
        ("mobilenet_v2", {"width": 0.1, "image_size": 33, "in_channels": 1}, (1, 33, 33)),
        ("mobilenet_v3_small", {"width": 0.35, "image_size": 33, "in_channels": 1}, (1, 33, 33)),
        ("squeezenet", {"image_size": 17, "in_channels": 1}, (1, 17, 17)),
        ("shufflenet_v2", {"width": 1, "image_size": 33, "in_channels": 1}, (1, 33, 33)),
    ],
)
def test_arguments(name, arguments, shape):
    model = create_model(name, **arguments)
    assert model.input_shape == shape
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, arguments.get("num_classes", 10))


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("fomo", {}, (11, 12, 12)),
        ("fomo", {"image_size": 48, "in_channels": 3, "num_classes": 1, "width": 1}, (2, 6, 6)),
        ("tiny_unet", {}, (11, 64, 64)),
        ("tiny_unet", {"image_size": 8, "in_channels": 3, "num_classes": 1, "base": 2}, (2, 8, 8)),
    ],
)
def test_maps_have_a_class_more_for_the_background(name, arguments, shape):
    model = create_model(name, **arguments)
    assert model.eval()(torch.zeros(2, *model.input_shape)).shape == (2, *shape)


def test_conv_pool_is_the_net_that_its_docstring_says():
    kinds = [type(layer).__name__ for layer in create_model("conv_pool")]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"]
    assert isinstance(create_model("conv_pool", pooling="avg")[2], nn.AvgPool2d)


@pytest.mark.parametrize(
    ("name", "arguments", "said", "hint"),
    [
        ("lenet", {}, "no model 'lenet'", "lenet5? the zoo has conv_pool, lenet5, tiny_vgg, resnet8"),
        ("lenet5", {"classes": 3}, "takes no argument classes", "it takes in_channels, num_classes"),
        ("conv_pool", {"in_channel": 3}, "takes no argument in_channel", "in_channels? "),
        ("conv_pool", {"pooling": "mean"}, "no pooling 'mean'", "max or avg"),
        ("conv_pool", {"pool_size": 6}, "leaves nothing", "36 or more"),
        ("conv_pool", {"in_channels": 0}, "in_channels=0 is not possible", "1 or more"),
        ("lenet5", {"num_classes": "ten"}, "num_classes='ten'", "1 or more"),
        ("resnet8", {"in_channels": True}, "in_channels=True", "1 or more"),
        ("tiny_vgg", {"image_size": 15}, "leave nothing of 15x15", "16 or more"),
        ("ds_cnn", {"height": 3}, "3x10 is too small", "height of 4"),
        ("mobilenet_v1", {"width": 0}, "width=0", "above 0"),
        ("mobilenet_v2", {"width": "wide"}, "width='wide'", "above 0"),
        ("squeezenet", {"image_size": 16}, "nothing is left of 16x16", "17 or more"),
        ("shufflenet_v2", {"width": 0.7}, "width=0.7", "0.5, 1.0, 1.5 or 2.0"),
        ("shufflenet_v2", {"width": True}, "width=True", "0.5, 1.0, 1.5 or 2.0"),
        ("tiny_unet", {"image_size": 60}, "image_size=60", "a multiple of 8"),
    ],
)
def test_refused(name, arguments, said, hint):
    with pytest.raises(ModelError, match=said) as caught:
        create_model(name, **arguments)
    assert hint in caught.value.hint


def test_the_table_loads_no_torch():
    code = "import sys, edgecnn.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
