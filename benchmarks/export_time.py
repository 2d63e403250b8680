"""Time of an export, compared with the minimum: a bare process that traces the same model.

``python benchmarks/export_time.py [MODEL] [--runs N]`` runs these in turn, N times after a warm-up, and prints medians:

- A: ``edgecnn export MODEL --no-check`` in both formats, whole process
- B: import torch and call ``torch.export.export`` on the model, whole process
- ``edgecnn --help`` and ``import edgecnn`` compared with ``python -c pass``
- in one process: export of a second model, and ``torch.export.export`` alone
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TRACE = """
import torch
from edgecnn.models import create_model
model = create_model({model!r}).eval()
torch.export.export(model, (torch.zeros(1, *model.input_shape),))
"""
COMMAND = "from edgecnn.cli import main; main()"


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def process(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def interleaved(runs: int, **works: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of each work, the works taking turns; the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            seconds = timed(work)
            if turn:
                times[name].append(seconds)
    return times


def show(times: dict[str, list[float]], over: str) -> None:
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, times[over], strict=True)]
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        print(
            f"{name:<16} median {statistics.median(seconds):.3f} s ({spread}), {statistics.median(ratios):.2f} x {over}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet8")
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "bundle")
        export = process("-c", COMMAND, "export", given.model, "--no-check", "-o", target)
        show(interleaved(given.runs, export=export, trace=process("-c", TRACE.format(model=given.model))), "trace")
        starts = {"help": process("-c", COMMAND, "--help"), "import": process("-c", "import edgecnn")}
        show(interleaved(given.runs, **starts, nothing=process("-c", "pass")), "nothing")
        in_process(given.model, given.runs, target)


def in_process(name: str, runs: int, target: str) -> None:
    import torch

    import edgecnn
    from edgecnn.models import create_model

    def model() -> tuple[torch.nn.Module, torch.Tensor]:
        made = create_model(name).eval()
        return made, torch.zeros(1, *made.input_shape)

    def second() -> None:
        edgecnn.export_model(*model(), target)

    def trace() -> None:
        module, x = model()
        torch.export.export(module, (x,))

    show(interleaved(runs, again=second, trace_again=trace), "trace_again")


if __name__ == "__main__":
    main()
