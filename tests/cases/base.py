"""What the rows of the operator table are made of."""

from __future__ import annotations

import copyreg
import hashlib
import os
import pickle
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from edgecnn.capture.capture import capture
from edgecnn.graph.graph import Graph


@dataclass(frozen=True)
class Case:
    """A module, its input shapes without the batch, and what is known of its exports."""

    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = ((3, 9, 8),)
    transposes: int = 0
    """TRANSPOSE operators that TFLite cannot do without."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Format to a part of the message that refuses it."""
    batch_free: bool = True
    int8: str = ""
    """A part of the message that refuses it in int8."""

    def module(self) -> nn.Module:
        """The module with seeded weights, batch norms with statistics that are not the neutral ones."""
        torch.manual_seed(zlib.crc32(self.name.encode()))
        module = self.make().eval()
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d):
                nn.init.normal_(m.weight, 1.0, 0.3)
                nn.init.normal_(m.bias, 0.0, 0.3)
                m.running_mean.normal_(0.0, 0.5)
                m.running_var.uniform_(0.3, 2.0)
        return module

    def inputs(self, samples: int = 1) -> tuple[Tensor, ...]:
        """Seeded inputs, (samples, ...)."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + samples)
        return tuple(torch.randn(samples, *s, generator=generator) for s in self.shapes)


SHARED: Path | None = None
"""Where the processes that share a run of tests leave graphs for each other."""
_GRAPHS: dict[str, Graph] = {}


def captured(case: Case) -> Graph:
    """The case's graph, traced once for all tests and workers: tracing is half of what a case costs."""
    if case.name not in _GRAPHS:
        _GRAPHS[case.name] = _shared(case, SHARED) if SHARED else capture(case.module(), case.inputs())
    return _GRAPHS[case.name]


def _shared(case: Case, folder: Path) -> Graph:
    path = folder / f"{hashlib.sha256(case.name.encode()).hexdigest()}.graph"
    try:
        graph: Graph = pickle.loads(path.read_bytes())
    except FileNotFoundError:
        graph = capture(case.module(), case.inputs())
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_bytes(pickle.dumps(graph))
        beside.replace(path)
    for array in graph.constants.values():
        array.setflags(write=False)
    return graph


def _read_only(values: dict[object, object]) -> MappingProxyType[object, object]:
    return MappingProxyType(values)


copyreg.pickle(MappingProxyType, lambda values: (_read_only, (dict(values),)))


class Fn(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> object:
        return self.function(*args)


def seq(*layers: nn.Module | Callable[..., object]) -> Callable[[], nn.Module]:
    """Layers in sequence; each call makes new ones with the current seed."""

    def make() -> nn.Module:
        built = [layer() if isinstance(layer, Later) else layer for layer in layers]
        return nn.Sequential(*(m if isinstance(m, nn.Module) else Fn(m) for m in built))

    return make


class Later:
    """A layer that is built when the case is, so that its weights follow the case's seed."""

    def __init__(self, kind: type[nn.Module], *args: object, **kwargs: object) -> None:
        self.kind, self.args, self.kwargs = kind, args, kwargs

    def __call__(self) -> nn.Module:
        return self.kind(*self.args, **self.kwargs)


def conv(*args: object, **kwargs: object) -> Later:
    return Later(nn.Conv2d, *args, **kwargs)


def bn(channels: int) -> Later:
    return Later(nn.BatchNorm2d, channels)


def linear(*args: object, **kwargs: object) -> Later:
    return Later(nn.Linear, *args, **kwargs)


def fn(function: Callable[..., object]) -> Callable[[], nn.Module]:
    """A function as a module; each call makes a new one."""
    return lambda: Fn(function)
