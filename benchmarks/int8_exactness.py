"""How exact the golden integer executor is: at least a million values per operator kind and runtime.

``python benchmarks/int8_exactness.py [--scale S]`` quantizes the zoo and a depthwise network on images of digits, runs
each operator alone in a model on the golden integers, and prints how many results differ from the golden executor's.
Operators without weights run on every pair of int8 values too, at several pairs of ranges.
The reference kernels are compared with the rounding ``gemmlowp``, the rest with ``half_even_fp32``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own habit)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from int8_support import CALIBRATION, Compared, images, integers, network, quantized, teacher_forced

from edgecnn.targets.hosts.local import LocalHost

SAMPLES = {"lenet5": 5400, "conv_pool": 256, "resnet8": 64, "depthwise": 128}
"""Enough of each for a million: linear layers from lenet5, depthwise ones from its own network."""
CHUNK = 256
GAINS = 16
"""Pairs of input ranges for the operators without weights."""
FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "relu": lambda x, y: x.relu(),  # noqa: ARG005
    "clamp": lambda x, y: x.clamp(-0.7, 0.9),  # noqa: ARG005
    "sigmoid": lambda x, y: x.sigmoid(),  # noqa: ARG005
    "tanh": lambda x, y: x.tanh(),  # noqa: ARG005
    "softmax": lambda x, y: y.softmax(1),  # noqa: ARG005
    "mean": lambda x, y: (x * y).mean((2, 3)),
    "mean over channels": lambda x, y: x.mean(1),  # noqa: ARG005
    "average": lambda x, y: F.avg_pool2d(x + y, 3, 2, 1),
    "cat": lambda x, y: torch.cat([x.sigmoid(), y], 1),
}


def compare(name: str, samples: int) -> list[Compared]:
    module = network(name)
    data = images(module.input_shape, samples)
    q = quantized(module, [data[:CALIBRATION]])
    results = []
    for start in range(0, samples, CHUNK):
        with LocalHost().start() as agent:
            results += list(teacher_forced(agent, q, integers(q, [data[start : start + CHUNK]])))
    return results


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


def compare_function(function: Callable[..., torch.Tensor], count: int) -> list[Compared]:
    results = []
    with LocalHost().start() as agent:
        for seed in range(count):
            data = pairs(seed)
            q = quantized(Function(function), data)
            results += list(teacher_forced(agent, q, integers(q, data)))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="times the samples of a full run")
    scale = parser.parse_args().scale
    start = time.perf_counter()
    table: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    for name, samples in SAMPLES.items():
        for compared in compare(name, max(1, round(samples * scale))):
            table[compared.kind, compared.executor].append(compared)
    for function in FUNCTIONS.values():
        for compared in compare_function(function, max(1, round(GAINS * scale))):
            table[compared.kind, compared.executor].append(compared)
    print(f"{'operator':<12} {'executor':<12} {'values':>12} {'mismatches':>10} {'worst':>6}")
    for (kind, executor), rows in sorted(table.items()):
        values, mismatches, worst = (
            sum(r.values for r in rows),
            sum(r.mismatches for r in rows),
            max(r.worst for r in rows),
        )
        print(f"{kind:<12} {executor:<12} {values:>12,} {mismatches:>10,} {worst:>6}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
