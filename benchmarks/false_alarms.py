"""False alarms: checks of correct artifacts on correct runtimes, none of which may fail or name a faulty layer.

``python benchmarks/false_alarms.py [--seeds N] [--models M,M] [--boards B,B] [--board-models M,M]`` exports models of
the zoo with random weights in both formats, float and int8, runs every artifact on every runtime here and on emulated
boards, and locates errors in each, as ``edgecnn check --locate`` does. An alarm is a failed verdict, a target that
could not be judged, or a named layer or cause. It prints the number of runs by place and every alarm, and exits with 1
if there is one.

Only boards that are built are used (``edgecnn targets emulate``). Emulated x86 is skipped: without VNNI, ONNX Runtime's
int8 can be wrong there, so a run is not a clean one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.int8 import images
from support.shared_host import shared_target

import edgecnn
from edgecnn.bundle import Bundle
from edgecnn.data.calibration import of_samples
from edgecnn.locate.failures import locate_failures
from edgecnn.models import create_model
from edgecnn.parity.bundle_check import check_bundle
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import is_built
from edgecnn.targets.hosts.emulated import EmulatedHost
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import Target

RUNTIMES = ("onnxruntime", "litert")
MODELS = ("conv_pool", "lenet5", "tiny_vgg", "resnet8", "ds_cnn", "mobilenet_v1", "squeezenet", "shufflenet_v2", "fomo")
BOARDS = ("pi2", "pi3", "pi4", "pi5", "zero2w")
BOARD_MODELS = ("conv_pool", "lenet5", "ds_cnn")
SAMPLES = 8
SLOW = 600.0
"""Time limit for one reply of an emulated board, in seconds."""


def random_bundle(name: str, seed: int, folder: Path) -> Bundle:
    """A model of the zoo with random weights and batch norms, calibrated on images of digits."""
    torch.manual_seed(seed)
    module = create_model(name).eval()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, 0.0, 0.2)
            m.running_mean.normal_(0.0, 0.2)
            m.running_var.uniform_(0.3, 2.0)
    shape = module.input_shape
    data = of_samples((images(shape, SAMPLES),), "digits")
    return edgecnn.export_model(
        module, torch.zeros(1, *shape), folder, name=name, precisions=("fp32", "int8"), calibration=data
    )


def alarms(bundle: Bundle, targets: Sequence[Target]) -> tuple[int, list[str]]:
    """The number of runs of the bundle's artifacts on the targets, and the alarms."""
    report = check_bundle(bundle, targets=targets)
    report = locate_failures(bundle, report, everything=True, targets=targets)
    found = [f"{v.artifact} on {v.target}: {v.reason}" for v in report.verdicts if not v.passed]
    found += [f"{u.artifact} on {u.target}: {u.error.message}" for u in report.unjudged]
    for location in report.locations:
        if location.layer or location.cause:
            found.append(f"{location.artifact} on {location.target}: {location.layer}: {location.cause}")
    runs = {(v.artifact, v.target) for v in report.verdicts} | {(u.artifact, u.target) for u in report.unjudged}
    if len(report.locations) != len(runs):
        found.append(f"{bundle.manifest.name}: {len(runs)} runs, {len(report.locations)} located: {report.notes}")
    return len(runs), found


def board_targets(names: Sequence[str], stack: ExitStack) -> Iterator[Target]:
    """Both runtimes of each built board, each in one process for all artifacts."""
    for name in names:
        board = load_board(name)
        if not is_built(board):
            print(f"{name} is not built and is skipped: edgecnn targets emulate {name}")
            continue
        host: Any = EmulatedHost(board)
        for runtime in RUNTIMES:
            if runtime in board.runtimes:
                agent = stack.enter_context(host.start(host.environment_of(runtime), time_limit=SLOW))
                yield shared_target(agent, runtime, name)


def main() -> int:
    """Run all checks and count the alarms."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--board-models", default=",".join(BOARD_MODELS))
    given = parser.parse_args()
    runs: Counter[str] = Counter()
    found: list[str] = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        local = stack.enter_context(LocalHost().start())
        here = [shared_target(local, runtime) for runtime in RUNTIMES]
        boards = list(board_targets([b for b in given.boards.split(",") if b], stack))
        for seed in range(given.seeds):
            for name in given.models.split(","):
                bundle = random_bundle(name, seed, Path(folder) / f"{name}.{seed}")
                on_boards = boards if seed == 0 and name in given.board_models.split(",") else []
                for target in [*here, *on_boards]:
                    count, new = alarms(bundle, [target])
                    runs[target.name] += count
                    found += new
                    print(f"{name}, seed {seed}, {target.name}: {count} runs", *new, sep="\n  ", flush=True)
    for place, count in sorted(runs.items()):
        print(f"{place}: {count} runs")
    print(f"{len(found)} alarms in {runs.total()} runs")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
