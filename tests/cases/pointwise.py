"""Activations, by name and written out by hand; arithmetic; reductions; normalization."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from cases.base import Case, Later, bn, conv, fn, linear, seq

PAIR = ((3, 4, 5), (3, 4, 5))


def _activations() -> list[Case]:
    modules = [
        nn.LeakyReLU(),
        nn.LeakyReLU(0.3),
        nn.RReLU(),
        nn.PReLU(),
        nn.ELU(),
        nn.ELU(0.5),
        nn.SELU(),
        nn.CELU(),
        nn.CELU(0.7),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.SiLU(),
        nn.Mish(),
        nn.Hardswish(),
        nn.Hardsigmoid(),
        nn.Softplus(),
        nn.Softplus(2.0),
        nn.LogSigmoid(),
        nn.Softsign(),
        nn.Tanhshrink(),
        nn.Softshrink(),
        nn.Threshold(0.1, 0.1),
        nn.LogSoftmax(1),
        nn.Softmin(1),
        nn.Softmax2d(),
        nn.Hardtanh(-2, 0.5),
    ]
    cases = [Case(f"activation {m}", seq(m)) for m in modules]
    cases += [Case(f"conv, {m}", seq(conv(3, 4, 3), m)) for m in modules[:2] + modules[11:16]]
    cases += [
        Case("prelu per channel", seq(Later(_prelu, 3))),
        Case("prelu per channel behind bn", seq(conv(3, 4, 3), bn(4), Later(_prelu, 4), conv(4, 2, 1))),
        Case("prelu of features", seq(linear(8, 5), Later(_prelu, 5)), ((8,),)),
        Case("prelu of a signal", seq(Later(nn.Conv1d, 4, 3, 3), Later(_prelu, 3)), ((4, 9),)),
        Case("leaky relu in place", seq(conv(3, 4, 3), nn.LeakyReLU(0.2, inplace=True))),
        Case("large values through softplus and mish", seq(lambda x: F.softplus(x * 60) + F.mish(x * 50))),
        Case("softmax of features", seq(nn.Softmax(-1)), ((8,),)),
        Case("log softmax of scores", seq(nn.Flatten(), linear(216, 5), nn.LogSoftmax(1))),
        Case("log softmax over height", seq(nn.LogSoftmax(2)), transposes=2),
        Case("glu", seq(conv(3, 4, 3), nn.GLU(1))),
        Case("glu over width", seq(nn.GLU(-1))),
        Case("sigmoid and tanh of one value", seq(lambda x: x.sigmoid() * x.tanh())),
        Case("relu in all its spellings", seq(lambda x: F.relu(x) + x.clamp(min=0) + x.clamp_min(0) + torch.relu(x))),
        Case("clamp whose bounds cross", seq(lambda x: x.clamp(0.5, 0.1))),
        Case("clamp between tensors", fn(lambda x, y: torch.clamp(x, -y.abs(), y.abs())), PAIR),
        Case("hardtanh of relu6 range", seq(conv(3, 4, 3), nn.Hardtanh(0, 6))),
    ]
    return cases


def _prelu(channels: int) -> nn.PReLU:
    layer = nn.PReLU(channels)
    nn.init.uniform_(layer.weight, -0.2, 0.6)
    return layer


def _by_hand() -> list[Case]:
    forms = {
        "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
        "x / (1 + exp(-x))": lambda x: x / (1 + torch.exp(-x)),
        "1 / (1 + exp(-x))": lambda x: 1 / (1 + torch.exp(-x)),
        "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
        "x * (relu6(x + 3) / 6)": lambda x: x * (F.relu6(x + 3) / 6),
        "relu6(x + 3) * x * (1 / 6)": lambda x: F.relu6(x + 3) * x * (1 / 6),
        "x * clamp(x / 6 + 0.5, 0, 1)": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
        "x * hardsigmoid(x)": lambda x: x * F.hardsigmoid(x),
        "relu6(x + 3) / 6": lambda x: F.relu6(x + 3) / 6,
        "log(1 + exp(x))": lambda x: torch.log(1 + torch.exp(x)),
        "log1p(exp(x))": lambda x: torch.log1p(torch.exp(x)),
        "x * tanh(softplus(x))": lambda x: x * torch.tanh(F.softplus(x)),
        "x * tanh(log(1 + exp(x)))": lambda x: x * torch.tanh(torch.log(1 + x.exp())),
        "0.5 * x * (1 + erf)": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
        "x * 0.5 * (erf + 1)": lambda x: x * 0.5 * (torch.erf(x * math.sqrt(0.5)) + 1),
        "0.5 * x * (1 + tanh)": lambda x: (
            0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))))
        ),
        "0.5 * x * (1 + tanh), x taken out": lambda x: (
            0.5 * x * (1 + torch.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x)))
        ),
        "max(x, 0.1 * x)": lambda x: torch.maximum(x, 0.1 * x),
        "x.abs().relu() * x.sign()": lambda x: x.sign() * x.abs().relu(),
        "relu(x) - relu(-x)": lambda x: F.relu(x) - F.relu(-x),
    }
    return [Case(f"by hand: {text}", seq(form)) for text, form in forms.items()]


def _arithmetic() -> list[Case]:
    one = {
        "neg": lambda x: -x,
        "abs": lambda x: x.abs(),
        "square": lambda x: x.square(),
        "x ** 2": lambda x: x**2,
        "x ** 3": lambda x: x**3,
        "x ** 4": lambda x: x**4,
        "x ** 1": lambda x: x**1,
        "sqrt": lambda x: x.abs().sqrt(),
        "x ** 0.5": lambda x: (x * x) ** 0.5,
        "rsqrt": lambda x: (x * x + 0.1).rsqrt(),
        "x ** -0.5": lambda x: (x.abs() + 0.1) ** -0.5,
        "x ** -1": lambda x: (x.abs() + 0.5) ** -1,
        "x ** 1.7": lambda x: (x.abs() + 0.1) ** 1.7,
        "exp": lambda x: x.exp(),
        "exp2": lambda x: torch.exp2(x),
        "expm1": lambda x: torch.expm1(x),
        "2 ** x": lambda x: 2**x,
        "log": lambda x: (x.abs() + 0.1).log(),
        "log2": lambda x: (x.abs() + 0.1).log2(),
        "log10": lambda x: (x.abs() + 0.1).log10(),
        "log1p": lambda x: x.abs().log1p(),
        "sign": lambda x: x.sign(),
        "reciprocal": lambda x: (x.abs() + 0.5).reciprocal(),
        "1 / x": lambda x: 1 / (x.abs() + 0.5),
        "3 / x": lambda x: 3 / (x.abs() + 0.5),
        "times 0, plus 1": lambda x: x * 0.0 + 1.0,
        "times 1, plus 0": lambda x: (x * 1 + 0).relu(),
        "minimum of a number": lambda x: torch.minimum(x, torch.tensor(0.2)),
        "maximum per channel": lambda x: torch.maximum(x, torch.tensor([0.1, -0.2, 0.3])[:, None, None]),
        "rsub": lambda x: torch.rsub(x, 2.0, alpha=3),
        "sub alpha": lambda x: torch.sub(x, x.relu(), alpha=0.5),
        "lerp": lambda x: torch.lerp(x, x.relu(), 0.3),
        "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
        "float64 constant": lambda x: (x * torch.ones(3, 1, 1, dtype=torch.float64) * 0.3).float(),
        "float64 number": lambda x: x * torch.tensor(0.3, dtype=torch.float64),
        "int constant": lambda x: x * torch.tensor([1, 2, 3])[:, None, None],
        "ones like": lambda x: x + torch.ones_like(x) * 2,
        "zeros of its shape": lambda x: x + x.new_zeros(x.shape) + torch.full_like(x, 0.5),
        "grid added": lambda x: x + torch.arange(9.0)[:, None] / 9 + torch.arange(8.0) / 8,
        "channels last and back": lambda x: x.to(memory_format=torch.channels_last).contiguous() * 2,
    }
    two = {
        "minimum": torch.minimum,
        "maximum": torch.maximum,
        "max of two": torch.max,
        "distance": lambda x, y: ((x - y) ** 2).sum(1),
        "weighted": lambda x, y: 0.3 * x - y / 4 + x * y,
        "minimum with a spread": lambda x, y: torch.minimum(x, y.amax((2, 3), keepdim=True)),
        "lower rank": lambda x, y: x + y.amax((0, 2))[:, None],
    }
    cases = [Case(f"arithmetic {text}", seq(form)) for text, form in one.items()]
    for text, form in two.items():
        lower = text == "lower rank"
        cases.append(Case(f"arithmetic {text}", fn(form), PAIR, batch_free=not lower, transposes=2 * lower))
    return [
        *cases,
        Case("matmul of two inputs", fn(lambda x, y: x @ y), ((4, 5), (5, 3))),
        Case("matmul of one turned", fn(lambda x, y: x @ y.transpose(1, 2)), ((4, 5), (3, 5))),
        Case("matmul of rank 4", fn(torch.matmul), ((2, 4, 5), (2, 5, 3)), transposes=2),
        Case("bmm", fn(torch.bmm), ((4, 5), (5, 3))),
        Case("matmul with a constant", seq(lambda x: x @ torch.arange(12.0).reshape(4, 3)), ((5, 4),)),
        Case("matmul with a constant on the left", seq(lambda x: torch.arange(20.0).reshape(4, 5) @ x), ((5, 4),)),
        Case("attention over places", seq(_attention), ((6, 4, 5),)),
        Case("gram matrix", seq(lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2) / 72)),
    ]


def _attention(x: torch.Tensor) -> torch.Tensor:
    flat = x.flatten(2)
    scores = torch.softmax(flat.transpose(1, 2) @ flat / 3, -1)
    return (flat @ scores.transpose(1, 2)).view(x.shape)


def _reductions() -> list[Case]:
    forms = {
        "sum over channels": lambda x: x.sum(1),
        "sum over the image": lambda x: x.sum((2, 3)),
        "sum kept": lambda x: x.sum(-1, keepdim=True),
        "sum of rows": lambda x: x.sum(2),
        "amax over channels": lambda x: x.amax(1),
        "amax kept": lambda x: x.amax(1, keepdim=True),
        "amin over the image": lambda x: x.amin((2, 3)),
        "amin over height": lambda x: x.amin(2, keepdim=True),
        "max dim": lambda x: x.max(1)[0],
        "max dim values": lambda x: x.max(2, keepdim=True).values,
        "min dim": lambda x: x.min(3)[0],
        "mean of all but the batch": lambda x: x.mean((1, 2, 3)),
        "mean of channels and width": lambda x: x.mean((1, 3)),
        "var": lambda x: x.var((2, 3)),
        "var unbiased not": lambda x: x.var(1, unbiased=False),
        "std": lambda x: x.std((2, 3), keepdim=True),
        "norm": lambda x: torch.linalg.vector_norm(x, dim=1),
        "norm 1": lambda x: torch.linalg.vector_norm(x, ord=1, dim=(2, 3)),
        "norm inf": lambda x: torch.linalg.vector_norm(x, ord=math.inf, dim=(2, 3)),
        "normalize": lambda x: F.normalize(x, dim=1),
        "normalize features": lambda x: F.normalize(x.flatten(1), dim=1),
        "softmax by hand": lambda x: (x - x.amax(1, keepdim=True)).exp() / (x - x.amax(1, True)).exp().sum(1, True),
    }
    turned = {"normalize features"}
    cases = [Case(f"reduction {t}", seq(f), transposes=int(t in turned)) for t, f in forms.items()]
    return [
        *cases,
        Case("reduction to a number", seq(_to_one), batch_free=False),
    ]


def _to_one(x: torch.Tensor) -> torch.Tensor:
    return (x.mean() + x.sum() + x.max() + x.min()).reshape(1, 1)


def _normalizations() -> list[Case]:
    image = ((6, 5, 4),)
    return [
        Case("instance norm", seq(conv(3, 4, 3), nn.InstanceNorm2d(4))),
        Case("instance norm affine", seq(Later(_random, nn.InstanceNorm2d, 3, affine=True))),
        Case("instance norm running", seq(nn.InstanceNorm2d(3, track_running_stats=True))),
        Case("instance norm 1d", seq(nn.InstanceNorm1d(4)), ((4, 9),)),
        Case("group norm 2", seq(Later(_random, nn.GroupNorm, 2, 6)), image),
        Case("group norm 3 behind conv", seq(conv(6, 6, 3), Later(_random, nn.GroupNorm, 3, 6), nn.ReLU()), image),
        Case("group norm 1", seq(Later(_random, nn.GroupNorm, 1, 6)), image),
        Case("group norm of each", seq(Later(_random, nn.GroupNorm, 6, 6)), image),
        Case("group norm, no affine", seq(nn.GroupNorm(2, 6, affine=False)), image),
        Case("layer norm of the image", seq(Later(_random, nn.LayerNorm, (6, 5, 4))), image),
        Case("layer norm of features", seq(Later(_random, nn.LayerNorm, 8)), ((8,),)),
        Case("layer norm of channels", seq(lambda x: x.permute(0, 2, 3, 1), Later(_random, nn.LayerNorm, 6)), image),
        Case("layer norm, permuted back", seq(_channels_norm(6)), image),
        Case("layer norm of width", seq(nn.LayerNorm(4, elementwise_affine=False)), image),
        Case("rms norm", seq(Later(_random, nn.RMSNorm, 8)), ((8,),)),
        Case("batch norm 1d of a signal", seq(Later(nn.BatchNorm1d, 4)), ((4, 9),)),
        Case("standardized by hand", seq(lambda x: (x - x.mean((2, 3), True)) / (x.std((2, 3), keepdim=True) + 1e-5))),
    ]


def _random(kind: type[nn.Module], *args: object, **kwargs: object) -> nn.Module:
    layer = kind(*args, **kwargs)
    for p in layer.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    return layer


def _channels_norm(channels: int) -> nn.Module:
    class ChannelsNorm(nn.LayerNorm):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return ChannelsNorm(channels)


POINTWISE: tuple[Case, ...] = (
    *_activations(),
    *_by_hand(),
    *_arithmetic(),
    *_reductions(),
    *_normalizations(),
)
