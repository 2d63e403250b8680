"""The operator table of the tests: a case is one row, and every row runs in every format on every runtime.

What a format cannot express is a row too, with the words that the user will read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases.base import Case, Fn, Later, bn, conv, fn, linear, seq
from cases.images import IMAGES
from cases.int8 import with_refusals
from cases.layers import LAYERS
from cases.nets import NETS
from cases.pointwise import POINTWISE
from cases.shapes import SHAPES

__all__ = ["CASES", "CORE", "Case", "Fn"]


class Residual(nn.Module):
    def __init__(self, channels: int, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=inplace)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        y += x
        return self.act(y)


class Twice(nn.Module):
    """One convolution used twice, and a weight shared by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.other.weight = self.conv.weight
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(F.relu(self.conv(x)))) + self.other(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * torch.sigmoid(scale)


class Heads(nn.Module):
    """Several outputs, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Linear(4 * 7 * 6, 5)

    def forward(self, x: Tensor) -> dict[str, object]:
        y = F.relu(self.body(x))
        return {"map": self.a(y), "scores": [self.b(y.flatten(1)), y.mean((2, 3))]}


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6])[:, None, None])
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3])[:, None, None])
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x - self.mean) / self.std)


class WeightNormed(nn.Module):
    """A weight computed from parameters: folded at capture."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.g = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.rand(4, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.g * self.v / self.v.flatten(1).norm(dim=1)[:, None, None, None])


def _convolutions() -> list[Case]:
    cases = [
        Case(f"conv stride {s} padding {p} dilation {d} on {h}x{w}", seq(conv(3, 4, k, s, p, d)), ((3, h, w),))
        for k, s, p, d, h, w in [
            (3, 1, 1, 1, 9, 8),
            (3, 2, 1, 1, 9, 9),
            (3, 2, 1, 1, 8, 8),
            (3, 2, 0, 1, 8, 9),
            (1, 1, 0, 1, 4, 4),
            (1, 2, 0, 1, 8, 7),
            (5, 1, 2, 1, 9, 8),
            (5, 3, 2, 1, 10, 11),
            (2, 2, 0, 1, 8, 8),
            (2, 1, 1, 1, 6, 6),
            (3, 1, 2, 2, 9, 9),
            (3, 1, 1, 2, 9, 9),
            (3, 2, 2, 2, 10, 9),
            ((1, 3), 1, (0, 1), 1, 6, 7),
            ((3, 1), (2, 1), (1, 0), 1, 7, 6),
            ((2, 5), (1, 2), (0, 3), 1, 8, 9),
            (3, (1, 2), 1, 1, 8, 8),
            (3, 1, (1, 0), 1, 7, 7),
            (3, 4, 1, 1, 9, 9),
            (7, 2, 3, 1, 32, 32),
        ]
    ]
    cases += [
        Case("conv without bias", seq(conv(3, 4, 3, bias=False))),
        Case("conv padding same", seq(conv(3, 4, 3, padding="same"))),
        Case("conv padding same, even kernel, dilated", seq(conv(3, 4, 4, padding="same", dilation=2))),
        Case("conv padding valid", seq(conv(3, 4, 3, padding="valid"))),
        Case("conv one channel in", seq(conv(1, 4, 3, padding=1)), ((1, 8, 8),)),
        Case("conv one channel out", seq(conv(3, 1, 3, padding=1))),
        Case("conv asymmetric padding by F.pad", seq(lambda x: F.pad(x, (0, 1, 0, 1)), conv(3, 4, 3, 2)), ((3, 8, 8),)),
        Case("conv F.pad and padding", seq(lambda x: F.pad(x, (1, 2, 0, 1)), conv(3, 4, 3, padding=1))),
        Case("conv groups 2", seq(conv(4, 6, 3, padding=1, groups=2)), ((4, 8, 8),)),
        Case("conv groups 3, strided, relu", seq(conv(6, 3, 3, 2, 1, groups=3, bias=False), nn.ReLU()), ((6, 8, 8),)),
        Case("depthwise", seq(conv(4, 4, 3, padding=1, groups=4)), ((4, 8, 8),)),
        Case("depthwise stride 2", seq(conv(4, 4, 3, 2, 1, groups=4)), ((4, 8, 8),)),
        Case("depthwise uneven stride", seq(conv(4, 4, 3, (1, 2), 1, groups=4)), ((4, 8, 8),)),
        Case("depthwise multiplier 3", seq(conv(4, 12, 3, padding=1, groups=4)), ((4, 7, 8),)),
        Case("depthwise dilated", seq(conv(4, 4, 3, padding=2, dilation=2, groups=4)), ((4, 9, 9),)),
        Case("depthwise separable", seq(conv(4, 4, 3, 1, 1, groups=4), bn(4), nn.ReLU6(), conv(4, 8, 1)), ((4, 8, 8),)),
        Case("one channel in two groups of one", seq(conv(1, 5, 3, groups=1)), ((1, 8, 8),)),
        Case("weight norm by hand", WeightNormed),
        Case("module used twice, weight shared", Twice),
    ]
    return cases


def _pooling() -> list[Case]:
    corners = [
        (2, 2, 0, False, 8, 8),
        (2, 2, 0, False, 9, 7),
        (2, 2, 0, True, 9, 7),
        (3, 2, 1, False, 8, 8),
        (3, 2, 1, False, 9, 9),
        (3, 2, 1, True, 8, 8),
        (3, 2, 0, True, 8, 8),
        (3, 1, 1, False, 6, 6),
        (2, 1, 1, False, 6, 6),
        (3, 3, 1, True, 10, 11),
        (2, 3, 1, True, 7, 8),
        (5, 2, 2, True, 9, 10),
        ((2, 3), (2, 1), (1, 0), False, 8, 7),
        ((3, 2), (1, 3), (0, 1), True, 8, 8),
        ((1, 4), (1, 4), 0, False, 8, 8),
        (2, 3, 0, False, 8, 8),
        (1, 2, 0, False, 8, 8),
    ]
    cases = []
    for k, s, p, ceil, h, w in corners:
        text = f"kernel {k} stride {s} padding {p}{' ceil' * ceil} on {h}x{w}"
        cases.append(Case(f"max pool {text}", seq(Later(nn.MaxPool2d, k, s, p, ceil_mode=ceil)), ((2, h, w),)))
        for count in (True, False):
            make = seq(Later(nn.AvgPool2d, k, s, p, ceil_mode=ceil, count_include_pad=count))
            cases.append(Case(f"avg pool {text}{' counted' * count}", make, ((2, h, w),)))
    cases += [
        Case("max pool of negatives with padding", seq(lambda x: -1 - x.relu(), nn.MaxPool2d(3, 2, 1)), ((2, 8, 8),)),
        Case("max pool dilated", seq(nn.MaxPool2d(2, 1, dilation=2))),
        Case("avg pool divisor", seq(nn.AvgPool2d(2, divisor_override=3))),
        Case("avg pool divisor, padding, ceil", seq(nn.AvgPool2d(3, 2, 1, True, divisor_override=5)), ((2, 8, 8),)),
        Case("adaptive avg 1", seq(nn.AdaptiveAvgPool2d(1))),
        Case("adaptive avg divides", seq(nn.AdaptiveAvgPool2d((3, 4)))),
        Case("adaptive avg uneven", seq(nn.AdaptiveAvgPool2d((4, 3))), ((2, 9, 8),)),
        Case("adaptive avg uneven rows only", seq(nn.AdaptiveAvgPool2d((2, None))), ((2, 7, 3),)),
        Case("adaptive avg larger than the image", seq(nn.AdaptiveAvgPool2d((6, 2))), ((2, 4, 4),)),
        Case("adaptive max 1", seq(nn.AdaptiveMaxPool2d(1))),
        Case("adaptive max uneven", seq(nn.AdaptiveMaxPool2d((2, 3))), ((2, 7, 8),)),
        Case("global mean", seq(lambda x: x.mean((2, 3)))),
        Case("global mean kept", seq(lambda x: x.mean((-1, -2), keepdim=True))),
        Case("mean over channels", seq(lambda x: x.mean(1))),
        Case("mean over height", seq(lambda x: x.mean(2, keepdim=True))),
        Case("mean over width, dropped", seq(lambda x: x.mean(3))),
    ]
    return cases


def _elementwise() -> list[Case]:
    half = torch.full((1, 3, 9, 8), 0.5)
    return [
        Case("relu", seq(nn.ReLU())),
        Case("relu in place", seq(conv(3, 4, 3), nn.ReLU(inplace=True))),
        Case("relu6", seq(nn.ReLU6())),
        Case("conv relu6", seq(conv(3, 4, 3), nn.ReLU6(inplace=True))),
        Case("hardtanh", seq(nn.Hardtanh())),
        Case("conv hardtanh", seq(conv(3, 4, 3), nn.Hardtanh())),
        Case("hardtanh 0 1", seq(nn.Hardtanh(0, 1))),
        Case("hardtanh odd bounds", seq(conv(3, 4, 3), nn.Hardtanh(-0.3, 0.7))),
        Case("clamp below", seq(lambda x: x.clamp(min=0.1))),
        Case("clamp above", seq(lambda x: torch.clamp_max(x, 0.2))),
        Case("sigmoid", seq(nn.Sigmoid())),
        Case("tanh", seq(nn.Tanh())),
        Case("softmax over channels", seq(nn.Softmax(1))),
        Case("softmax over width", seq(nn.Softmax(-1)), transposes=1),
        Case("softmax of scores", seq(nn.Flatten(), linear(216, 5), nn.Softmax(1))),
        Case("rsub then max", seq(lambda x: 2 - x, nn.MaxPool2d(3, 2, 1, return_indices=False))),
        Case("add", fn(lambda x, y: x + y), ((3, 4, 5), (3, 4, 5))),
        Case("add scalar", seq(lambda x: x + 1.5)),
        Case("add alpha", fn(lambda x, y: torch.add(x, y, alpha=0.3)), ((3, 4, 5), (3, 4, 5))),
        Case("add broadcast", fn(lambda x, y: x + y), ((3, 4, 5), (3, 1, 1))),
        Case("add broadcast both ways", fn(lambda x, y: x + y), ((3, 1, 5), (1, 4, 1))),
        Case("add constant image", seq(lambda x: x + half)),
        Case("add per width", seq(lambda x: x + torch.arange(8.0))),
        Case("sub", fn(lambda x, y: x - y), ((3, 4, 5), (3, 4, 5))),
        Case("scalar minus x", seq(lambda x: 1 - x)),
        Case("mul", fn(lambda x, y: x * y), ((3, 4, 5), (3, 4, 5))),
        Case("mul relu", fn(lambda x, y: F.relu(x * y)), ((3, 4, 5), (3, 4, 5))),
        Case("div", fn(lambda x, y: x / (y.relu() + 1)), ((3, 4, 5), (3, 4, 5))),
        Case("div scalar", seq(lambda x: x / 3)),
        Case("normalize in the model", Normalized),
        Case("in-place add then use", seq(lambda x: (x * 2).add_(1).mul_(x))),
        Case("in-place through a view", seq(lambda x: _write_through_view(x * 1.0)), transposes=1),
        Case("batch norm alone", seq(bn(3))),
        Case("batch norm then relu", seq(bn(3), nn.ReLU())),
        Case("pre-activation", seq(bn(3), nn.ReLU(), conv(3, 4, 3))),
        Case("conv bn", seq(conv(3, 4, 3, bias=False), bn(4))),
        Case("conv bn relu", seq(conv(3, 4, 3), bn(4), nn.ReLU())),
        Case("conv relu bn", seq(conv(3, 4, 3), nn.ReLU(), bn(4))),
        Case("depthwise bn", seq(conv(3, 6, 3, groups=3), bn(6))),
        Case("linear bn", seq(nn.Flatten(), linear(216, 5), Later(nn.BatchNorm1d, 5), nn.ReLU())),
        Case("flatten bn linear", seq(nn.Flatten(), Later(nn.BatchNorm1d, 216), linear(216, 5))),
        Case("dropout", seq(conv(3, 4, 3), nn.Dropout(), nn.Dropout2d(), nn.Identity())),
        Case("squeeze and excite", lambda: SqueezeExcite(3)),
        Case("residual", lambda: Residual(3)),
        Case("residual in place", lambda: Residual(3, inplace=True)),
    ]


def _sigmoid_after_dropout(x: Tensor) -> Tensor:
    y = F.dropout(x * 1.0, training=False)
    z = y * 1.0
    v = F.dropout(z, training=False)
    v.sigmoid_()
    return z


class StepNames(nn.Module):
    """A container named like a step on the way to a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 3, 1, 1))
        self.conv2d = nn.Module()
        self.conv2d.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d.linear(F.relu(F.conv2d(x, self.w)))


def _write_through_view(y: Tensor) -> Tensor:
    y.view(y.size(0), -1).add_(1.0)
    return y * 2


def _shapes() -> list[Case]:
    flat = 4 * 7 * 6
    return [
        Case("flatten linear", seq(conv(3, 4, 3), nn.Flatten(), linear(flat, 5))),
        Case("view linear", seq(conv(3, 4, 3), lambda x: x.view(x.size(0), -1), linear(flat, 5))),
        Case("view -1 linear", seq(conv(3, 4, 3), lambda x: x.view(-1, flat), linear(flat, 5))),
        Case("reshape linear", seq(conv(3, 4, 3), lambda x: x.reshape(x.shape[0], flat), linear(flat, 5))),
        Case("flatten dropout relu linear", seq(conv(3, 4, 3), nn.Flatten(), nn.Dropout(), nn.ReLU(), linear(flat, 5))),
        Case("flatten, two heads", Heads),
        Case("pool flatten linear", seq(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(3, 5))),
        Case("mean linear", seq(lambda x: x.mean((2, 3)), linear(3, 5, bias=False))),
        Case("squeeze linear", seq(nn.AdaptiveAvgPool2d(1), lambda x: x.squeeze(-1).squeeze(-1), linear(3, 5))),
        Case("linear stack", seq(nn.Flatten(), linear(216, 7), nn.ReLU(), linear(7, 5))),
        Case("linear on the last axis", seq(linear(8, 5)), transposes=1),
        Case("linear on the last axis, no bias, relu", seq(linear(8, 5, bias=False), nn.ReLU()), transposes=1),
        Case("linear on vectors", seq(linear(8, 5)), ((8,),)),
        Case("flatten as output", seq(nn.Flatten()), transposes=1),
        Case("flatten of one channel", seq(nn.Flatten()), ((1, 4, 5),)),
        Case("flatten of 1x1", seq(nn.AdaptiveMaxPool2d(1), nn.Flatten())),
        Case(
            "reshape to an image",
            seq(linear(8, 24), lambda x: x.view(-1, 2, 3, 4), conv(2, 3, 2)),
            ((8,),),
            transposes=1,
        ),
        Case("reshape twice", seq(nn.Flatten(), lambda x: x.view(x.size(0), 8, 27), nn.Flatten(), linear(216, 2))),
        Case("reshape mixing the batch", seq(lambda x: x.reshape(9, 24)), batch_free=False, transposes=1),
        Case("cat channels", fn(lambda x, y: torch.cat([x, y], 1)), ((3, 4, 5), (2, 4, 5))),
        Case("cat height", fn(lambda x, y: torch.cat([x, y, x], -2)), ((3, 4, 5), (3, 2, 5))),
        Case("cat features", seq(lambda x: torch.cat([x.mean((2, 3)), x.mean((2, 3)) * 2], 1), linear(6, 2))),
        Case("permute to channels last", seq(conv(3, 4, 3), lambda x: x.permute(0, 2, 3, 1))),
        Case("permute from channels last", seq(lambda x: x.permute(0, 3, 1, 2), conv(3, 4, 3)), ((9, 8, 3),)),
        Case("permute, scale, back", seq(lambda x: (x.permute(0, 2, 3, 1) * torch.arange(3.0)).permute(0, 3, 1, 2))),
        Case("permute before flatten", seq(lambda x: x.permute(0, 2, 3, 1).flatten(1), linear(216, 4))),
        Case("transpose of height and width", seq(lambda x: x.transpose(2, 3), conv(3, 4, 3)), transposes=1),
        Case("pad", seq(lambda x: F.pad(x, (1, 2, 3, 0)))),
        Case("pad with a value", seq(lambda x: F.pad(x, (1, 0), value=-2.5))),
        Case("pad channels", seq(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), conv(6, 2, 1))),
        Case("zero pad module", seq(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2))),
        Case(
            "zero pad, max pool of negatives", seq(lambda x: -1 - x.relu(), nn.ZeroPad2d((0, 1, 1, 0)), nn.MaxPool2d(2))
        ),
        Case("zero pad, max pool with padding", seq(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2, 1))),
        Case("zero pad, avg pool with padding", seq(nn.ZeroPad2d(1), nn.AvgPool2d(3, 2, 1, count_include_pad=False))),
        Case("zero pad, avg pool of kernel 1", seq(lambda x: F.avg_pool2d(F.pad(x, (1, 0, 1, 1)), 1, (2, 3)))),
        Case(
            "zero pad, avg pool padded on its own",
            seq(lambda x: F.avg_pool2d(F.pad(x, (1, 1, 2, 1)), (4, 1), 1, (2, 0))),
        ),
        Case("bounds that differ in the 8th digit", seq(lambda x: (x * 1000).clamp(1000.001, 1000.004) - 1000)),
        Case("channels broadcast up", seq(conv(3, 1, 1), lambda x: x * torch.arange(1.0, 4.0)[:, None, None])),
        Case("features broadcast up", seq(linear(8, 1), lambda x: x + torch.arange(4.0)), ((8,),)),
        Case("add alpha times a constant", seq(lambda x: torch.add(x, torch.arange(8.0), alpha=0.3))),
        Case("relu in place on the input", seq(nn.ReLU(inplace=True), conv(3, 4, 3))),
        Case("write in place to the input", seq(lambda x: x.sub_(0.5).div_(0.25), conv(3, 4, 3))),
        Case("conv bn dropout relu in place", seq(conv(3, 4, 3), bn(4), nn.Dropout(), nn.ReLU(inplace=True))),
        Case("in place behind dropout", fn(_sigmoid_after_dropout)),
        Case(
            "conv bn flatten relu in place",
            seq(conv(3, 4, 3), bn(4), nn.Flatten(), nn.ReLU(inplace=True), linear(flat, 2)),
        ),
        Case("written into zeros", seq(lambda x: torch.zeros(x.shape).add_(x) * 2)),
        Case("step names that a module has too", StepNames, transposes=1),
        Case(
            "bn flatten bn linear", seq(nn.MaxPool2d(2), bn(3), nn.Flatten(), Later(nn.BatchNorm1d, 48), linear(48, 5))
        ),
        Case("bn then conv without padding", seq(bn(3), conv(3, 4, 3))),
        Case(
            "scale then conv with padding",
            seq(lambda x: x * torch.arange(1.0, 4.0)[:, None, None], conv(3, 4, 3, 1, 1)),
        ),
        Case("x / 255 - mean / std", seq(lambda x: (x / 255 - 0.4) / 0.2, conv(3, 4, 3, 1, 1))),
        Case("flatten, mean of positions", seq(lambda x: x.flatten(2).mean(-1), linear(3, 2))),
        Case("slice", seq(lambda x: x[:, 1:, 2:-1, ::2])),
        Case("unsqueeze squeeze", seq(lambda x: x.unsqueeze(1).squeeze(1))),
        Case("contiguous, clone, detach", seq(lambda x: (x + 1).contiguous().clone().detach())),
        Case("two inputs", fn(lambda x, y: F.relu(x) * y.mean((2, 3), keepdim=True)), ((3, 4, 5), (3, 2, 2))),
        Case("two outputs", fn(lambda x: (x.relu(), x.mean((2, 3))))),
        Case("one value given out twice", fn(lambda x: (x.relu(),) * 2)),
    ]


CORE: tuple[Case, ...] = tuple(with_refusals((*_convolutions(), *_pooling(), *_elementwise(), *_shapes())))
"""What every precision is tested with."""
CASES: tuple[Case, ...] = (*CORE, *with_refusals((*LAYERS, *POINTWISE, *SHAPES, *IMAGES, *NETS)))
