"""Bytes as input: the preprocessing goes into the first layer, exactly in real numbers, whatever the means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.int8 import images, network
from torch import nn

import edgecnn
from edgecnn.capture.capture import capture
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import QuantizationError
from edgecnn.golden.float import execute_float
from edgecnn.graph.ops import Pad
from edgecnn.quantize.uint8_input import take_bytes

IMAGENET = Preprocessing(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.5,))
CAFFE = Preprocessing(scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0,))
CIFAR = Preprocessing(scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))
DARK = Preprocessing(scale=1 / 255, mean=(0.001, 0.4, 0.999), std=(0.2, 0.3, 0.4))
MEANS = {"imagenet": IMAGENET, "half": HALF, "caffe": CAFFE, "cifar": CIFAR, "far apart": DARK}


class TwoReaders(nn.Module):
    """A shortcut: the input is read by a padded convolution and by one without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 4, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(x) + self.narrow(x)


class Uneven(nn.Module):
    """Padding on one side only, as TensorFlow's SAME has it with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(nn.functional.pad(x, (0, 1, 0, 1)))


FIRST = {
    "padded": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "without a bias": lambda: nn.Conv2d(3, 4, 5, 2, 2, bias=False),
    "dilated": lambda: nn.Conv2d(3, 4, 3, padding=2, dilation=2),
    "on one side": Uneven,
    "two readers": TwoReaders,
    "two padded readers": lambda: Both(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)),
    "without padding": lambda: nn.Conv2d(3, 4, 3),
}


class Both(nn.Module):
    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.a(x), self.b(x)


def raw_images(shape: tuple[int, ...], count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, *shape)).astype(np.float32)


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("first", FIRST)
def test_what_bytes_give_is_what_the_model_gives(first: str, means: str) -> None:
    """Every output, those at the border among them, within the rounding of float32."""
    torch.manual_seed(4)
    module, how = FIRST[first]().eval(), MEANS[means]
    raw = raw_images((3, 9, 9), 4)
    raw[0], raw[1] = 0, 255  # constant images, where a wrong border shows most
    x = how.apply(raw)
    graph = capture(module, [torch.as_tensor(x[:1])])
    taken = take_bytes(graph, how)
    (u,) = taken.convert([x])
    np.testing.assert_allclose(taken.params.quantize(u).astype(int) + 128, raw, atol=0)
    expected, got = (execute_float(g, [a]) for g, a in ((graph, x), (taken.graph, u)))
    for old, new in zip(graph.outputs, taken.graph.outputs, strict=True):
        scale = np.ptp(expected[old.value])
        assert np.abs(got[new.value] - expected[old.value]).max() < 3e-6 * scale, old.name
    channels = [n for n in taken.graph.nodes if isinstance(n.op, Pad)]
    assert len(channels) == (first != "without padding"), "one channel, whatever reads it"


def test_a_module_may_have_the_name_of_what_is_added() -> None:
    """Of the input with the constant channel, and of what scales the input."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.inside, self.scaled = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.conv(x), self.inside(x), self.scaled(x)

    module = nn.ModuleDict({"x": Named()}).eval()
    module.forward = lambda x: module["x"](x)  # type: ignore[method-assign]
    x = IMAGENET.apply(raw_images((3, 9, 9), 2))
    graph = capture(module, [torch.as_tensor(x[:1])])
    assert {"x.inside", "x.scaled"} <= {n.name for n in graph.nodes}
    assert graph.inputs[0].name == "x"
    taken = take_bytes(graph, IMAGENET)
    (u,) = taken.convert([x])
    expected, got = (execute_float(g, [a]) for g, a in ((graph, x), (taken.graph, u)))
    for old, new in zip(graph.outputs, taken.graph.outputs, strict=True):
        np.testing.assert_allclose(got[new.value], expected[old.value], atol=1e-5)


@pytest.mark.parametrize("means", ["imagenet", "half", "caffe"])
def test_a_residual_net_takes_a_cameras_bytes(tmp_path, here, means: str) -> None:
    """Both formats give the integers of the reference; int8 loses no more than in a file that takes float32."""
    module, how = network("resnet8"), MEANS[means]
    noise = np.random.default_rng(0).normal(40, 20, (96, *module.input_shape))
    raw = np.clip(np.rint(images(module.input_shape, 96) * 200 + noise), 0, 255).astype(np.float32)
    snr: dict[str, list[float]] = {}
    for io in ("float32", "uint8"):
        bundle = edgecnn.export_model(
            module, torch.zeros(1, *module.input_shape), tmp_path / io, name="q", precisions=["int8"], io=io,
            preprocessing=how, calibration=how.apply(raw), recipe="int8-portable",
        )  # fmt: skip
        report = edgecnn.check_bundle(bundle, targets=here)
        assert report.passed
        assert {v.lsb_max for v in report.verdicts} == {0}
        snr[io] = [v.snr_db for v in report.verdicts]
    assert min(snr["uint8"]) > min(snr["float32"]) - 2, snr
    assert bundle.artifact("tflite", "int8").operators["PADV2"] == 1


def test_failures_behind_the_channel_are_located(tmp_path, here) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 81, 3)).eval()
    raw = raw_images((3, 9, 9), 32)
    bundle = edgecnn.export_model(
        module, torch.zeros(1, 3, 9, 9), tmp_path / "q", name="q", precisions=["int8"], io="uint8",
        preprocessing=IMAGENET, calibration=IMAGENET.apply(raw),
    )  # fmt: skip
    report = edgecnn.check_bundle(bundle, targets=here, locating=True)
    assert report.passed
    assert len(report.locations) == 2


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), "groups=1"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 1)), "no weights"),
        (nn.Identity(), "an output too"),
    ],
    ids=["depthwise", "pooling first", "identity"],
)
def test_what_is_refused(module: Any, why: str) -> None:
    graph = capture(module.eval(), [torch.zeros(1, 3, 8, 8)])
    with pytest.raises(QuantizationError, match="cannot be folded") as found:
        take_bytes(graph, IMAGENET)
    assert why in found.value.why
