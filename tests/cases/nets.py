"""Blocks that small networks are made of, as others write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases.base import Case


def _conv_bn(i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act())


class InvertedResidual(nn.Module):
    def __init__(self, act: type[nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv_bn(4, 8, 1, act=act), _conv_bn(8, 8, 3, g=8, act=act), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SqueezeExciteHard(nn.Module):
    """As in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(4, 8, act=nn.Hardswish)
        self.pool, self.a, self.b = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x * F.hardsigmoid(self.b(F.relu(self.a(self.pool(x)))))


class SqueezeExciteLinear(nn.Module):
    """With linear layers and a view, as many write it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(4, 2), nn.SiLU(), nn.Linear(2, 4), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return x * self.fc(y).view(b, c, 1, 1).expand_as(x)


class ShuffleUnit(nn.Module):
    """As in ShuffleNetV2, with torchvision's own shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(_conv_bn(4, 4, 1), nn.Conv2d(4, 4, 3, 1, 1, groups=4), _conv_bn(4, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        y = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = y.size()
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleStage(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(ShuffleUnit(), ShuffleUnit(), nn.Conv2d(8, 4, 1))


class ShuffleStageOfTwo(nn.Module):
    """As in ShuffleNetV2: a unit of stride 2, two that halve the channels, and a unit of stride 2 again."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_conv_bn(4, 12, 1), _conv_bn(4, 12, 1)])
        self.branches = nn.ModuleList([_conv_bn(12, 12, 1), _conv_bn(12, 12, 1)])
        self.last = nn.ModuleList([nn.Conv2d(24, 24, 3, 2, 1, groups=24), nn.Conv2d(24, 4, 1, 2)])
        self.head = nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.channel_shuffle(torch.cat([d(x) for d in self.down], 1), 2)
        for branch in self.branches:
            kept, worked = x.chunk(2, 1)
            x = F.channel_shuffle(torch.cat([kept, branch(worked)], 1), 2)
        return self.head(self.last[0](x)) + self.last[1](x)


class ShuffledGroups(nn.Module):
    """As in ShuffleNet: grouped convolutions, a shuffle between them, and the input added or concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(12, 12, 1, groups=3, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12))
        self.second = nn.Conv2d(12, 12, 1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.deep(F.channel_shuffle(self.first(x), 3)))
        return torch.cat([F.relu(x + y), F.avg_pool2d(x, 3, 1, 1)], 1)


class DenseBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + 2 * i), nn.ReLU(), nn.Conv2d(4 + 2 * i, 2, 3, padding=1)) for i in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return F.avg_pool2d(torch.cat(features, 1), 2)


class Fire(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.max_pool2d(torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1), 3, 2, ceil_mode=True)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = _conv_bn(4, 2, 1), _conv_bn(4, 3, 3), _conv_bn(4, 2, 5)
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x), self.c(x), self.pool(x)], 1)


class RepVgg(nn.Module):
    """Before its branches are merged."""

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.one = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.same = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.three(x) + self.one(x) + self.same(x))


class Aspp(nn.Module):
    """Dilated branches and a global one, as in DeepLab."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(4, 2, 3, padding=d, dilation=d) for d in (1, 2, 3))
        self.one = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(self.one(F.adaptive_avg_pool2d(x, 1)), size=x.shape[2:], mode="bilinear")
        return torch.cat([*(b(x) for b in self.branches), pooled], 1)


class UNet(nn.Module):
    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.down, self.middle = _conv_bn(4, 4), _conv_bn(4, 8)
        self.up = (
            nn.ConvTranspose2d(8, 4, 2, 2)
            if transposed
            else nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(8, 4, 1))
        )
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        up = self.up(self.middle(F.max_pool2d(skip, 2)))
        dy, dx = skip.size(2) - up.size(2), skip.size(3) - up.size(3)
        up = F.pad(up, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.head(torch.cat([skip, up], 1))


class Pyramid(nn.Module):
    """Two scales joined, with a head on each, as in small detectors."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = _conv_bn(4, 4, act=nn.SiLU), _conv_bn(4, 8, s=2, act=nn.SiLU)
        self.side, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = self.a(x)
        coarse = self.side(self.b(fine))
        joined = fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        heads = [self.head(v).permute(0, 2, 3, 1).flatten(1, 2) for v in (joined, coarse)]
        return {"boxes": torch.cat(heads, 1).sigmoid(), "features": coarse}


class ConvNext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep, self.norm = nn.Conv2d(4, 4, 7, padding=3, groups=4), nn.LayerNorm(4)
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 4)
        self.gamma = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.b(F.gelu(self.a(y)))).permute(0, 3, 1, 2)


class Cbam(nn.Module):
    """Attention over channels, then over places."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1))
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))
        places = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(self.conv(places))


class Eca(nn.Module):
    """A convolution over neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        return x * self.conv(y).transpose(-1, -2).unsqueeze(-1).sigmoid()


class Coordinates(nn.Module):
    """CoordConv."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, x.size(2)), torch.linspace(-1, 1, x.size(3)), indexing="ij")
        grid = torch.stack([ys, xs])[None].expand(x.size(0), -1, -1, -1)
        return self.conv(torch.cat([x, grid], 1))


class Ghost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap = _conv_bn(4, 3, 1), _conv_bn(3, 3, 3, g=3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.primary(x)
        return torch.cat([a, self.cheap(a)], 1)[:, :5]


class PreActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv, self.short = nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn(x))
        return self.conv(y) + self.short(y)


IMAGE = ((4, 10, 8),)
NETS: tuple[Case, ...] = (
    Case("net inverted residual", InvertedResidual, IMAGE),
    Case("net inverted residual, hardswish", lambda: InvertedResidual(nn.Hardswish), IMAGE),
    Case("net inverted residual, silu", lambda: InvertedResidual(nn.SiLU), IMAGE),
    Case("net inverted residual, gelu", lambda: InvertedResidual(nn.GELU), IMAGE),
    Case("net squeeze and excitation, hard", SqueezeExciteHard, IMAGE),
    Case("net squeeze and excitation, linear", SqueezeExciteLinear, IMAGE),
    Case("net shuffle unit", ShuffleUnit, ((8, 5, 6),)),
    Case("net shuffle stage", ShuffleStage, ((8, 5, 6),)),
    Case("net shuffle stage of two", ShuffleStageOfTwo, IMAGE),
    Case("net shuffled groups", ShuffledGroups, ((12, 5, 6),)),
    Case("net dense block", DenseBlock, IMAGE),
    Case("net fire", Fire, IMAGE),
    Case("net inception", Inception, IMAGE),
    Case("net re-parameterised", RepVgg, IMAGE),
    Case("net dilated branches", Aspp, IMAGE),
    Case("net encoder-decoder, transposed", lambda: UNet(transposed=True), ((4, 11, 9),)),
    Case("net encoder-decoder, bilinear", lambda: UNet(transposed=False), ((4, 11, 9),)),
    Case("net pyramid with heads", Pyramid, IMAGE),
    Case("net convnext block", ConvNext, IMAGE),
    Case("net attention over channels and places", Cbam, IMAGE),
    Case("net efficient channel attention", Eca, IMAGE),
    Case("net coordinates", Coordinates, IMAGE, batch_free=False),
    Case("net ghost", Ghost, IMAGE),
    Case("net pre-activation", PreActivation, IMAGE),
)
