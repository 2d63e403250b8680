"""Exactness of the golden integer executor, on at least a million values per operator kind and runtime.

``python benchmarks/int8_exactness.py [--scale S]`` quantizes the zoo and a depthwise network on images of digits, runs
each operator in isolation on the golden integers, and prints how many results differ from the golden executor's.
Operators without weights also run on every pair of int8 values, at several pairs of ranges. Each runtime is compared
with the rounding rule of its own kernels (``ALL`` in tests/support/int8.py). tflite-runtime and TFLite Micro are found
as the tests find them; missing runtimes are reported and skipped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own habit)
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.environments import python_of
from support.int8 import ALL, CALIBRATION, Compared, images, integers, network, quantized, teacher_forced

from edgecnn.program.quantized import QuantizedGraph
from edgecnn.targets.hosts.local import LocalHost

SAMPLES = {"lenet5": 512, "conv_pool": 64, "resnet8": 32, "depthwise": 96}
"""Samples of each model: enough for a million values of every kind, together with lenet5's separate linear layers."""
LINEAR_SAMPLES = 5120
CHUNK = 256
GAINS = 16
"""Number of pairs of input ranges for the operators without weights."""
FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "relu": lambda x, y: x.relu(),  # noqa: ARG005
    "clamp": lambda x, y: x.clamp(-0.7, 0.9),  # noqa: ARG005
    "sigmoid": lambda x, y: x.sigmoid(),  # noqa: ARG005
    "tanh": lambda x, y: x.tanh(),  # noqa: ARG005
    "softmax": lambda x, y: y.softmax(1),  # noqa: ARG005
    "mean of products": lambda x, y: (x * y).mean((2, 3)),
    "mean over channels": lambda x, y: x.mean(1),  # noqa: ARG005
    "average": lambda x, y: F.avg_pool2d(x + y, 3, 2, 1),
    "cat": lambda x, y: torch.cat([x.sigmoid(), y], 1),
    "pad": lambda x, y: F.pad(x, (1, 2, 3, 0)),  # noqa: ARG005
    "slice": lambda x, y: y[:, :, 1:],  # noqa: ARG005
}
WINDOWS = ((4, 4), (8, 8), (7, 7), (5, 3), (3, 3), (6, 6), (1, 10), (12, 12))
"""Image sizes of the global means, since the pairs of int8 values in 16 channels give only 16 means."""
MEANS = (4096, 16)
"""Number of means per window and pair of ranges."""


Run = Callable[[QuantizedGraph, Sequence[np.ndarray]], list[Compared]]


def runs(executors: Sequence[str], stack: ExitStack) -> Run:
    """Compare every operator of a graph on every executor, each runtime in a separate process."""
    agents = {r: stack.enter_context(LocalHost(python_of(r)).start()) for r in {ALL[e].runtime for e in executors}}

    def run(q: QuantizedGraph, data: Sequence[np.ndarray]) -> list[Compared]:
        inputs = integers(q, data)
        return [c for e in executors for c in teacher_forced(agents[ALL[e].runtime], q, inputs, [e])]

    return run


def compare(run: Run, name: str, samples: int) -> Iterator[Compared]:
    module = network(name)
    data = images(module.input_shape, samples)
    q = quantized(module, [data[:CALIBRATION]])
    for start in range(0, samples, CHUNK):
        yield from run(q, [data[start : start + CHUNK]])


def compare_linear(run: Run, samples: int) -> Iterator[Compared]:
    """Compare the linear layers of lenet5 on random features."""
    data = np.random.default_rng(0).standard_normal((samples, 400), dtype=np.float32)
    q = quantized(network("lenet5").classifier, [data[:CALIBRATION]])
    for start in range(0, samples, CHUNK):
        yield from run(q, [data[start : start + CHUNK]])


def pairs(seed: int) -> list[np.ndarray]:
    """Every pair of int8 values once, as 16 channels of 64x64 pixels in a seeded order, at two seeded ranges."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(1 << 16)
    sides = [(order >> 8) - 128, (order & 255) - 128]
    return [
        ((s + rng.integers(-40, 40)) * g).reshape(1, 16, 64, 64).astype(np.float32)
        for s, g in zip(sides, rng.uniform(0.005, 0.05, 2), strict=True)
    ]


class Function(torch.nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.function(x, y)


def compare_function(run: Run, function: Callable[..., torch.Tensor], count: int) -> Iterator[Compared]:
    for seed in range(count):
        data = pairs(seed)
        yield from run(quantized(Function(function), data), data)


def compare_means(run: Run, count: int) -> Iterator[Compared]:
    """Compare global averages of random integers."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        steps = rng.integers(-128, 128, (*MEANS, *WINDOWS[seed % len(WINDOWS)])) + rng.integers(-40, 40)
        data = (steps * rng.uniform(0.005, 0.05)).astype(np.float32)
        yield from run(quantized(nn.AdaptiveAvgPool2d(1), [data]), [data])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="times the samples of a full run")
    scale = parser.parse_args().scale
    start = time.perf_counter()
    executors = [e for e, x in ALL.items() if python_of(x.runtime)]
    for missing in ALL.keys() - set(executors):
        print(f"{missing}: not installed, skipped")
    table: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    count = max(1, round(GAINS * scale))
    with ExitStack() as stack:
        run = runs(executors, stack)
        parts = [compare_means(run, count)]
        parts += [compare_function(run, function, count) for function in FUNCTIONS.values()]
        parts += [compare(run, name, max(1, round(samples * scale))) for name, samples in SAMPLES.items()]
        parts.append(compare_linear(run, max(1, round(LINEAR_SAMPLES * scale))))
        for compared in chain.from_iterable(parts):
            table[compared.kind, compared.executor].append(compared)
    print(f"{'operator':<12} {'executor':<25} {'values':>12} {'mismatches':>10} {'worst':>6}")
    for (kind, executor), rows in sorted(table.items()):
        values, mismatches, worst = (
            sum(r.values for r in rows),
            sum(r.mismatches for r in rows),
            max(r.worst for r in rows),
        )
        print(f"{kind:<12} {executor:<25} {values:>12,} {mismatches:>10,} {worst:>6}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
