"""Padding with what the image holds, resizing, and shuffling between pixels and channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from cases.base import Case, Later, bn, conv, seq

FOUR = ((4, 6, 8),)


def _pads() -> list[Case]:
    modules = [
        nn.ReflectionPad2d(1),
        nn.ReflectionPad2d((2, 1, 0, 3)),
        nn.ReflectionPad2d((1, 0, 0, 0)),
        nn.ReplicationPad2d(1),
        nn.ReplicationPad2d((0, 3, 2, 1)),
        nn.ReplicationPad2d((7, 0, 0, 0)),
        nn.CircularPad2d(1),
        nn.CircularPad2d((1, 2, 3, 0)),
        nn.ConstantPad2d((1, 2, 0, 1), 0.7),
        nn.ZeroPad2d((-1, 1, 2, -2)),
    ]
    cases = [Case(f"pad {m}", seq(m)) for m in modules]
    cases += [Case(f"pad, conv: {m}", seq(m, conv(3, 4, 3), nn.ReLU())) for m in modules[::3]]
    return [
        *cases,
        Case("pad 1d reflect", seq(nn.ReflectionPad1d((2, 1))), ((4, 9),)),
        Case("pad 1d replicate", seq(nn.ReplicationPad1d(2), Later(nn.Conv1d, 4, 3, 3)), ((4, 9),)),
        Case("pad 1d circular", seq(nn.CircularPad1d(2)), ((4, 9),)),
        Case("pad negative", seq(lambda x: F.pad(x, (-1, -2, 0, -3)))),
    ]


def _resizing() -> list[Case]:
    kinds: list[dict[str, object]] = [
        {"scale_factor": 2},
        {"scale_factor": 3},
        {"scale_factor": (1, 2)},
        {"scale_factor": 0.5},
        {"scale_factor": 1.5},
        {"scale_factor": 1.3},
        {"scale_factor": (0.7, 2.6)},
        {"size": (5, 7)},
        {"size": (12, 16)},
        {"size": (1, 1)},
        {"size": 13},
        {"scale_factor": 1.5, "recompute_scale_factor": True},
        {"scale_factor": 2, "mode": "nearest-exact"},
        {"scale_factor": 1.3, "mode": "nearest-exact"},
        {"size": (5, 7), "mode": "nearest-exact"},
        {"size": (3, 3), "mode": "area"},
    ]
    for corners in (True, False):
        kinds += [
            {"scale_factor": 2, "mode": "bilinear", "align_corners": corners},
            {"scale_factor": 0.5, "mode": "bilinear", "align_corners": corners},
            {"scale_factor": 1.3, "mode": "bilinear", "align_corners": corners},
            {"scale_factor": (1.7, 0.6), "mode": "bilinear", "align_corners": corners},
            {"scale_factor": 1.3, "mode": "bilinear", "align_corners": corners, "recompute_scale_factor": True},
            {"size": (5, 7), "mode": "bilinear", "align_corners": corners},
            {"size": (13, 9), "mode": "bilinear", "align_corners": corners},
            {"size": (1, 1), "mode": "bilinear", "align_corners": corners},
            {"size": (6, 16), "mode": "bilinear", "align_corners": corners},
        ]
    cases = [Case(f"resize {k}", seq(lambda x, k=k: F.interpolate(x, **k)), FOUR) for k in kinds]
    return [
        *cases,
        Case("resize module", seq(conv(4, 3, 1), nn.Upsample(scale_factor=2)), FOUR),
        Case("resize module, bilinear", seq(nn.UpsamplingBilinear2d(scale_factor=2), conv(4, 3, 3)), FOUR),
        Case("resize to another", seq(lambda x: F.interpolate(F.max_pool2d(x, 3), size=x.shape[-2:]) + x), FOUR),
        Case("resize a row", seq(nn.Upsample(size=(4, 4), mode="bilinear")), ((3, 1, 7),)),
        Case("resize a pixel", seq(nn.Upsample(size=(4, 5), mode="bilinear", align_corners=True)), ((3, 1, 1),)),
        Case("resize 1d nearest", seq(nn.Upsample(scale_factor=2)), ((4, 9),)),
        Case("resize 1d linear", seq(nn.Upsample(scale_factor=2, mode="linear")), ((4, 9),)),
        Case("resize 1d linear, corners", seq(nn.Upsample(13, mode="linear", align_corners=True)), ((4, 9),)),
    ]


def _shuffles() -> list[Case]:
    eight = ((8, 3, 4),)
    return [
        Case("pixel shuffle", seq(nn.PixelShuffle(2)), eight),
        Case("pixel shuffle of one channel", seq(nn.PixelShuffle(2)), ((4, 3, 4),)),
        Case("pixel shuffle 3", seq(nn.PixelShuffle(3)), ((18, 3, 4),)),
        Case("pixel shuffle behind conv", seq(conv(3, 8, 3), nn.PixelShuffle(2), nn.ReLU(), conv(2, 3, 3))),
        Case("pixel shuffle behind conv bn relu", seq(conv(3, 8, 3), bn(8), nn.ReLU(), nn.PixelShuffle(2))),
        Case("pixel shuffle by hand", seq(_shuffle_by_hand), eight),
        Case("depth to space by hand", seq(_blocks_by_hand), eight),
        Case("pixel unshuffle", seq(nn.PixelUnshuffle(2)), ((3, 4, 6),)),
        Case("pixel unshuffle 3, conv", seq(nn.PixelUnshuffle(3), conv(27, 4, 1)), ((3, 6, 9),)),
        Case("pixel unshuffle by hand", seq(_unshuffle_by_hand), ((3, 4, 6),)),
        Case("space to depth by hand", seq(_squares_by_hand), ((3, 4, 6),)),
        Case("shuffle and back", seq(nn.PixelShuffle(2), nn.PixelUnshuffle(2)), eight),
    ]


def _shuffle_by_hand(x):
    n, c, h, w = x.shape
    return x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, h * 2, w * 2)


def _blocks_by_hand(x):
    n, c, h, w = x.shape
    return x.view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, h * 2, w * 2)


def _unshuffle_by_hand(x):
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, c * 4, h // 2, w // 2)


def _squares_by_hand(x):
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, c * 4, h // 2, w // 2)


IMAGES: tuple[Case, ...] = (*_pads(), *_resizing(), *_shuffles())
