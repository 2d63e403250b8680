"""Convolutions in one dimension, transposed ones, padding modes, and the rest of pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cases.base import Case, Later, bn, conv, fn, linear, seq

SIGNAL = ((4, 11),)


def _signals() -> list[Case]:
    conv1d = [
        (3, 1, 0, 1),
        (3, 1, 1, 1),
        (3, 2, 1, 1),
        (5, 3, 2, 1),
        (3, 1, 2, 2),
        (1, 1, 0, 1),
        (1, 2, 0, 1),
        (2, 2, 0, 1),
        (4, 1, 2, 1),
        (3, 2, 4, 3),
    ]
    cases = [
        Case(f"conv1d kernel {k} stride {s} padding {p} dilation {d}", seq(Later(nn.Conv1d, 4, 6, k, s, p, d)), SIGNAL)
        for k, s, p, d in conv1d
    ]
    pools = [(2, 2, 0, False), (3, 2, 1, False), (3, 2, 1, True), (3, 1, 0, False), (2, 3, 1, True), (5, 5, 2, False)]
    for k, s, p, ceil in pools:
        text = f"1d kernel {k} stride {s} padding {p}{' ceil' * ceil}"
        cases.append(Case(f"max pool {text}", seq(nn.MaxPool1d(k, s, p, ceil_mode=ceil)), SIGNAL))
        cases.append(Case(f"avg pool {text}", seq(nn.AvgPool1d(k, s, p, ceil, False)), SIGNAL))
        cases.append(Case(f"avg pool {text} counted", seq(nn.AvgPool1d(k, s, p, ceil)), SIGNAL))
    layer = Later(nn.Conv1d, 4, 6, 3, padding=1)
    cases += [
        Case("conv1d padding same", seq(Later(nn.Conv1d, 4, 6, 4, padding="same")), SIGNAL),
        Case("conv1d padding valid", seq(Later(nn.Conv1d, 4, 6, 4, padding="valid", bias=False)), SIGNAL),
        Case("conv1d circular", seq(Later(nn.Conv1d, 4, 6, 3, padding=1, padding_mode="circular")), SIGNAL),
        Case("conv1d reflect", seq(Later(nn.Conv1d, 4, 6, 3, padding=2, padding_mode="reflect")), SIGNAL),
        Case("conv1d groups", seq(Later(nn.Conv1d, 4, 6, 3, groups=2)), SIGNAL),
        Case("conv1d depthwise", seq(Later(nn.Conv1d, 4, 8, 3, groups=4, padding=1)), SIGNAL),
        Case("conv1d bn relu pool conv", seq(layer, Later(nn.BatchNorm1d, 6), nn.ReLU(), nn.MaxPool1d(2)), SIGNAL),
        Case("conv1d leaky conv1d", seq(layer, nn.LeakyReLU(0.1), Later(nn.Conv1d, 6, 3, 3)), SIGNAL),
        Case("conv1d flatten linear", seq(layer, nn.ReLU(), nn.Flatten(), linear(66, 5)), SIGNAL),
        Case("conv1d mean linear", seq(layer, lambda x: x.mean(-1), linear(6, 5)), SIGNAL),
        Case("conv1d adaptive linear", seq(layer, nn.AdaptiveAvgPool1d(1), nn.Flatten(), linear(6, 5)), SIGNAL),
        Case("conv1d residual", lambda: Residual1d(), SIGNAL),
        Case("conv1d causal", seq(lambda x: F.pad(x, (4, 0)), Later(nn.Conv1d, 4, 6, 3, dilation=2)), SIGNAL),
        Case("conv1d chomp", seq(Later(nn.Conv1d, 4, 6, 3, padding=2), lambda x: x[..., :-2].relu()), SIGNAL),
        Case("conv1d, features last", seq(layer, lambda x: x.transpose(1, 2), linear(6, 5)), SIGNAL),
        Case("conv1d of two inputs", fn(lambda x, y: F.max_pool1d(torch.cat([x, y], 1), 2)), SIGNAL * 2),
        Case("adaptive avg 1d uneven", seq(nn.AdaptiveAvgPool1d(4)), SIGNAL),
        Case("adaptive avg 1d all", seq(nn.AdaptiveAvgPool1d(1)), SIGNAL),
        Case("adaptive max 1d uneven", seq(nn.AdaptiveMaxPool1d(3)), SIGNAL),
        Case("max pool 1d dilated", seq(nn.MaxPool1d(3, 1, dilation=2)), SIGNAL),
        Case("conv transpose 1d", seq(Later(nn.ConvTranspose1d, 4, 3, 4, 2, 1)), SIGNAL),
        Case("conv transpose 1d odd", seq(Later(nn.ConvTranspose1d, 4, 3, 3, 2, 1, 1), nn.ReLU()), SIGNAL),
    ]
    return cases


class Residual1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.bn(self.b(F.relu(self.a(x)))))


def _transposed() -> list[Case]:
    rows = [
        # kernel, stride, padding, output padding, groups, dilation
        (2, 2, 0, 0, 1, 1),
        (3, 2, 1, 1, 1, 1),
        (3, 2, 1, 0, 1, 1),
        (3, 2, 0, 0, 1, 1),
        (4, 2, 1, 0, 1, 1),
        (3, 1, 1, 0, 1, 1),
        (3, 1, 0, 0, 1, 1),
        (5, 3, 2, 1, 1, 1),
        (4, 4, 0, 0, 1, 1),
        (2, 3, 0, 1, 1, 1),
        (1, 2, 0, 1, 1, 1),
        (3, 2, 2, 1, 1, 2),
        (3, 1, 1, 0, 1, 2),
        (3, 2, 4, 1, 1, 1),
        ((2, 3), (2, 1), (0, 1), 0, 1, 1),
        ((3, 4), (1, 2), (1, 1), 0, 1, 1),
        ((4, 3), (3, 2), (1, 0), (1, 0), 1, 1),
        (2, 2, 0, 0, 2, 1),
        (4, 2, 1, 0, 4, 1),
        (3, 2, 1, 1, 2, 1),
        ((3, 2), (1, 2), 0, 0, 4, 1),
        (3, 1, 1, 0, 2, 1),
        (2, 1, 0, 1, 1, 2),
    ]
    cases = [
        Case(
            f"conv transpose kernel {k} stride {s} padding {p} more {o} groups {g} dilation {d}",
            seq(Later(nn.ConvTranspose2d, 4, 8, k, s, p, o, groups=g, dilation=d)),
            ((4, 5, 6),),
        )
        for k, s, p, o, g, d in rows
    ]
    up = Later(nn.ConvTranspose2d, 4, 3, 2, 2, bias=False)
    cases += [
        Case("conv transpose bn relu", seq(Later(nn.ConvTranspose2d, 4, 3, 2, 2), bn(3), nn.ReLU()), ((4, 5, 6),)),
        Case(
            "conv transpose in groups, bn relu",
            seq(Later(nn.ConvTranspose2d, 4, 6, 3, 2, 1, groups=2, bias=False), bn(6), nn.ReLU()),
            ((4, 5, 6),),
        ),
        Case("conv transpose relu6 conv", seq(up, nn.ReLU6(), conv(3, 4, 3)), ((4, 5, 6),)),
        Case("conv then conv transpose", seq(conv(3, 4, 3, 2), up)),
    ]
    return cases


def _modes() -> list[Case]:
    cases = [
        Case(f"conv padding mode {mode}, {k} {p}", seq(conv(3, 4, k, padding=p, padding_mode=mode)))
        for mode in ("reflect", "replicate", "circular")
        for k, p in ((3, 1), (5, 2), ((1, 5), (0, 2)), (4, "same"))
    ]
    return [
        *cases,
        Case("conv padding mode reflect, strided bn relu", seq(conv(3, 4, 3, 2, 1, padding_mode="reflect"), bn(4))),
        Case("conv groups 4 of 8 channels", seq(conv(8, 12, 3, groups=4)), ((8, 6, 6),)),
        Case("conv groups 2, pointwise", seq(conv(8, 4, 1, groups=2, bias=False), nn.ReLU()), ((8, 6, 6),)),
        Case("conv groups, dilated, strided", seq(conv(6, 6, 3, 2, 2, 2, groups=3)), ((6, 9, 9),)),
        Case("depthwise multiplier 2, strided, bn relu6", seq(conv(3, 6, 5, 2, 2, groups=3), bn(6), nn.ReLU6())),
        Case("depthwise of a column", seq(conv(3, 3, (5, 1), padding=(2, 0), groups=3))),
        Case("conv functional, weight scaled", lambda: ScaledWeight()),
        Case("linear on rank 4", seq(lambda x: x.permute(0, 2, 3, 1), linear(3, 5))),
        Case("linear on rank 3", seq(linear(7, 5), nn.ReLU(), linear(5, 2)), ((4, 7),)),
        Case("linear bn on rank 2", seq(linear(7, 5, bias=False), Later(nn.BatchNorm1d, 5), nn.Tanh()), ((7,),)),
    ]


class ScaledWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.gain = nn.Parameter(torch.rand(4, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight * self.gain, padding="same")


def _pools() -> list[Case]:
    dilated = [(2, 1, 0, 2), (3, 1, 1, 2), (3, 2, 1, 2), ((2, 3), (1, 2), (0, 1), (3, 2)), (3, 3, 1, 3), (1, 2, 0, 2)]
    cases = [
        Case(f"max pool dilated kernel {k} stride {s} padding {p} dilation {d}", seq(nn.MaxPool2d(k, s, p, d)))
        for k, s, p, d in dilated
    ]
    return [
        *cases,
        Case("max pool dilated, ceil", seq(nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True)), ((2, 10, 9),)),
        Case("lp pool 2", seq(nn.LPPool2d(2, 2))),
        Case("lp pool 2, uneven, strided", seq(nn.LPPool2d(2, (3, 2), (2, 1)))),
        Case("lp pool 3 of positives", seq(nn.ReLU(), nn.LPPool2d(3, 2))),
        Case("lp pool 1 of positives", seq(nn.ReLU(), nn.LPPool2d(1, 3, 2))),
        Case("lp pool 2, ceil", seq(nn.LPPool2d(2, 3, 2, ceil_mode=True)), ((2, 8, 8),)),
        Case("lp pool 1d", seq(nn.LPPool1d(2, 3)), SIGNAL),
        Case("min pool", seq(lambda x: -F.max_pool2d(-x, 2))),
        Case("min pool, padded", seq(lambda x: -F.max_pool2d(-x, 3, 2, 1))),
        Case("min pool behind a convolution", seq(conv(3, 4, 3), lambda x: -F.max_pool2d(-x, 2))),
        Case("global max", seq(lambda x: x.amax((2, 3)))),
        Case("global max kept", seq(lambda x: x.amax((2, 3), keepdim=True))),
        Case("global max by F", seq(lambda x: F.max_pool2d(x, x.shape[2:]))),
        Case("global average by F", seq(lambda x: F.avg_pool2d(x, x.size()[2:]))),
        Case("global max and average", seq(lambda x: torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1), linear(6, 2))),
        Case("adaptive avg of one row", seq(nn.AdaptiveAvgPool2d((1, None)))),
        Case("adaptive avg to its own size", seq(nn.AdaptiveAvgPool2d((9, 8)))),
        Case("adaptive avg 5x5 of 9x8", seq(nn.AdaptiveAvgPool2d(5))),
        Case("adaptive max divides", seq(nn.AdaptiveMaxPool2d((3, 4)))),
        Case("adaptive max of columns", seq(nn.AdaptiveMaxPool2d((None, 3)))),
        Case("mixed pool", seq(lambda x: 0.5 * (F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)))),
        Case("max pool, then avg pool", seq(nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1))),
        Case("pyramid pooling", seq(lambda x: _pyramid(x)), transposes=2),
        Case("avg pool 4x1", seq(nn.AvgPool2d((4, 1), 1, (2, 0)))),
        Case("avg pool divisor 1", seq(nn.AvgPool2d(2, divisor_override=1))),
        Case("blur pool", seq(lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), _BLUR, stride=2, groups=3))),
    ]


_BLUR = (torch.tensor([1.0, 2, 1])[:, None] * torch.tensor([1.0, 2, 1]) / 16).expand(3, 1, 3, 3)


def _pyramid(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([F.adaptive_avg_pool2d(x, n).flatten(1) for n in (1, 2, 3)], 1)


LAYERS: tuple[Case, ...] = (*_signals(), *_transposed(), *_modes(), *_pools())
