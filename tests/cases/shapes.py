"""Splitting, stacking, ordering, reshaping of any kind, and what shall leave no TRANSPOSE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from cases.base import Case, Later, conv, fn, linear, seq

FOUR = ((4, 6, 8),)


def _pieces() -> list[Case]:
    forms = {
        "chunk": lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1],
        "chunk unevenly": lambda x: x.chunk(3, 3)[2],
        "split": lambda x: x.split(3, 1)[1],
        "split by sizes": lambda x: x.split([1, 3], 1)[1],
        "split height": lambda x: torch.cat(x.split(2, 2)[::-1], 2),
        "tensor split": lambda x: torch.tensor_split(x, 3, 1)[1],
        "unbind": lambda x: x.unbind(1)[1] + x.unbind(1)[3],
        "unbind height": lambda x: x.unbind(2)[2],
        "select channel": lambda x: x[:, 1],
        "select row": lambda x: x[:, :, -1],
        "select pixel": lambda x: x[:, :, 2, 3],
        "slice with steps": lambda x: x[:, ::2, 1::3, 1:7:2],
        "ellipsis": lambda x: x[..., 1:],
        "narrow": lambda x: x.narrow(2, 1, 3),
        "stack": lambda x: torch.stack([x, x * 2], 1),
        "stack channels of parts": lambda x: torch.stack([x[:, 0], x[:, 2]], 1),
        "stack last": lambda x: torch.stack([x.mean((2, 3)), x.amax((2, 3))], -1),
        "hstack": lambda x: torch.hstack([x, -x]),
        "cat of four": lambda x: torch.cat([x, x.relu(), x.sigmoid(), x * 2], 1),
        "cat width": lambda x: torch.cat([x, x[..., :2]], 3),
        "cat a constant": lambda x: torch.cat([x, torch.ones(1, 1, 6, 8)], 1),
        "cat coordinates": lambda x: torch.cat([x, torch.linspace(-1, 1, 8).expand(1, 1, 6, 8)], 1),
        "focus": lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2]], 1),
        "expand": lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 8) * x,
        "expand as output": lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 8),
        "expand as": lambda x: x.amax(1, keepdim=True).expand_as(x) - x,
        "expand into cat": lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 8)], 1),
        "repeat": lambda x: x.repeat(1, 2, 1, 1),
        "repeat both axes": lambda x: x.repeat(1, 1, 2, 3),
        "tile": lambda x: torch.tile(x, (1, 2, 1, 2)),
        "repeat interleave": lambda x: x.repeat_interleave(2, 2),
        "flip width": lambda x: x.flip(3),
        "flip both": lambda x: x.flip((2, 3)),
        "flip channels": lambda x: x.flip(1),
        "roll": lambda x: x.roll(1, 2),
        "roll both": lambda x: x.roll((1, -2), (2, 3)),
        "index channels": lambda x: x[:, [2, 1, 0]],
        "index rows": lambda x: x[:, :, [0, 5, 3]],
        "index negative": lambda x: x[:, [-1, 0]],
        "index select": lambda x: x.index_select(1, torch.tensor([0, 2])),
        "unsqueeze everywhere": lambda x: x.unsqueeze(1).unsqueeze(-1).squeeze(1).squeeze(-1),
    }
    fixed = {"cat a constant", "cat coordinates"}
    cases = [
        Case(f"shape {text}", seq(form), FOUR, batch_free=text not in fixed, transposes=int(text == "stack"))
        for text, form in forms.items()
    ]
    rgb = Case("index channels then conv", seq(lambda x: x[:, [2, 1, 0]], conv(3, 4, 3)))
    return [*cases, rgb]


def _orders() -> list[Case]:
    flat = 4 * 7 * 6
    free = {
        "permute, add per channel, back": lambda x: (x.permute(0, 2, 3, 1) + torch.arange(4.0)).permute(0, 3, 1, 2),
        "permute, softmax, back": lambda x: x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2),
        "permute before flatten": lambda x: x.permute(0, 2, 3, 1).reshape(x.size(0), -1),
        "permute, linear, back": lambda x: F.linear(x.permute(0, 2, 3, 1), _SQUARE).permute(0, 3, 1, 2),
        "permute, mean": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
        "movedim": lambda x: x.movedim(1, -1).movedim(-1, 1).relu(),
        "swapaxes twice": lambda x: x.swapaxes(1, 2).swapaxes(1, 2) + 1,
        "flatten to places": lambda x: x.flatten(2).transpose(1, 2),
        "places and back": lambda x: x.flatten(2).relu().view(-1, 4, 6, 8) * 2,
        "flatten places, mean": lambda x: x.view(x.size(0), 4, -1).mean(2),
        "flatten places, max": lambda x: x.reshape(-1, 4, 48).amax(2),
        "split height into windows": lambda x: x.view(-1, 4, 3, 2, 8).mean(3),
        "split both into windows": lambda x: x.view(-1, 4, 3, 2, 4, 2).mean((3, 5)),
        "split channels into groups": lambda x: x.view(-1, 2, 2, 6, 8).sum(1),
        "groups, softmax, sum": lambda x: (x.view(-1, 2, 2, 6, 8).softmax(1) * x.view(-1, 2, 2, 6, 8)).sum(1),
        "channel shuffle by hand": lambda x: x.view(-1, 2, 2, 6, 8).transpose(1, 2).reshape(-1, 4, 6, 8),
        "channel shuffle": lambda x: F.channel_shuffle(x, 2),
        "unflatten": lambda x: x.unflatten(1, (2, 2)).flatten(1, 2),
        "max over height to a signal": lambda x: x.amax(2),
        "scores per place": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 2),
    }
    turned = {"groups, softmax, sum"}
    cases = [Case(f"layout {text}", seq(form), FOUR, int(text in turned)) for text, form in free.items()]
    return [
        *cases,
        Case("layout shuffle between convs", seq(conv(3, 6, 1), nn.ChannelShuffle(3), conv(6, 4, 1))),
        Case(
            "layout shuffle, depthwise, conv",
            seq(conv(3, 6, 1, bias=False), nn.ChannelShuffle(2), conv(6, 6, 3, groups=6), nn.ReLU(), conv(6, 4, 1)),
        ),
        Case(
            "layout shuffle between groups",
            seq(conv(3, 6, 1), nn.ReLU(), nn.ChannelShuffle(3), conv(6, 6, 1, groups=3)),
        ),
        Case("layout shuffle, depthwise multiplied", seq(nn.ChannelShuffle(3), conv(6, 12, 3, groups=6)), ((6, 5, 5),)),
        Case("layout conv, permute, flatten, linear", seq(conv(3, 4, 3), _last, nn.Flatten(), linear(flat, 5))),
        Case("layout permute, linear, gelu, linear", seq(_last, linear(3, 6), nn.GELU(), linear(6, 3))),
        Case("layout conv on channels last", seq(_first, conv(3, 4, 3), _last), ((9, 8, 3),)),
        Case("layout reshape mixing axes", seq(lambda x: x.view(-1, 6, 4, 8)), FOUR, transposes=1),
        Case("layout height to batch", seq(lambda x: x.transpose(1, 2).reshape(6, 4, 8)), FOUR, 1, batch_free=False),
        Case("layout view size(0) -1", seq(lambda x: x.view(x.size()[0], -1), linear(216, 3))),
        Case("layout view shape[0] numel", seq(lambda x: x.view(x.shape[0], x[0].numel()), linear(216, 3))),
        Case("layout reshape -1 features", seq(lambda x: x.reshape(-1, 3 * 9 * 8), linear(216, 3))),
        Case("layout flatten start_dim", seq(lambda x: torch.flatten(x, start_dim=1), linear(216, 3))),
        Case("layout flatten pooled", seq(nn.MaxPool2d(2), lambda x: x.view(len(x), -1), linear(48, 3))),
        Case("layout lstm-like steps", seq(lambda x: x.permute(0, 3, 1, 2).flatten(2), linear(27, 3)), transposes=1),
        Case("layout signal of rows", seq(lambda x: x.flatten(1, 2), Later(nn.Conv1d, 27, 4, 3)), transposes=2),
    ]


_SQUARE = torch.arange(16.0).reshape(4, 4) / 16


def _last(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1)


def _first(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 3, 1, 2)


@dataclass
class Detection:
    """Results as some write them."""

    boxes: torch.Tensor
    scores: torch.Tensor


@dataclass
class Detections:
    main: Detection
    more: list[torch.Tensor]


def _detect(x: torch.Tensor) -> Detections:
    return Detections(Detection(x * 2, x.mean((2, 3))), [x.relu()])


def _results() -> list[Case]:
    return [
        Case("argmax over channels", seq(conv(3, 4, 3), lambda x: x.argmax(1))),
        Case("argmax kept", seq(lambda x: x.argmax(1, keepdim=True))),
        Case("argmax of scores", seq(nn.Flatten(), linear(216, 5), lambda x: x.argmax(-1))),
        Case("scores and argmax", seq(nn.Flatten(), linear(216, 5), lambda x: (x, x.argmax(1)))),
        Case("max with indices", seq(lambda x: x.max(1))),
        Case("three inputs", fn(lambda x, y, z: x * y + z), ((3, 4, 5), (3, 1, 1), (1, 4, 5))),
        Case("an input that is not an image", fn(lambda x, y: x * y[:, :, None, None]), ((3, 4, 5), (3,))),
        Case("nested outputs", fn(lambda x: {"a": (x, x * 2), "b": [{"c": x.mean((2, 3))}]})),
        Case("outputs in dataclasses", fn(_detect)),
        Case("outputs with a None", fn(lambda x: {"main": x.relu(), "aux": None})),
    ]


SHAPES: tuple[Case, ...] = (*_pieces(), *_orders(), *_results())
