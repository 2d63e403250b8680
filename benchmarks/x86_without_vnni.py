"""The price of each way to keep ONNX Runtime exact on x86 without VNNI: the table in docs/quantization.md.

``python benchmarks/x86_without_vnni.py --weights DIR [--models M,...] [--boards B,...]`` exports models of the zoo by
each recipe, with weights that ``edgecnn train MODEL --data digits -o DIR/MODEL.pt`` has written, and runs the digits
that were held out. ``SNR`` is that of the logits against float, in a session with the option. ``differ`` is the share
of logits that differ from those, and ``accuracy`` is that of the session that the row is about, both on this processor.
``time`` is processor time of one image on one thread here, the smallest of rounds in which all files take turns, and
``pi4`` and so on are instructions of one image, both as multiples of those of the recipe int8 without the option.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

import edgecnn
from edgecnn.data.sources import load_dataset
from edgecnn.loading.weights import load_weights
from edgecnn.models import create_model
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import build_board, count_instructions
from edgecnn.targets.hosts.emulated import EmulatedHost

RECIPES = ("int8", "int8-uint8-weights", "int8-7bit")
ROUNDS = 15
SECONDS = 0.05
"""Of processor time that a file runs in a round."""


def session(data: bytes, precision: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", str(int(precision)))
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(opened: ort.InferenceSession, x: np.ndarray) -> np.ndarray:
    return opened.run(None, {opened.get_inputs()[0].name: x})[0]


def times(sessions: list[ort.InferenceSession], image: np.ndarray) -> list[float]:
    """Smallest processor time of one image in each session; they take turns."""
    best = [np.inf] * len(sessions)
    for _ in range(ROUNDS):
        for i, opened in enumerate(sessions):
            calls, start = 0, time.process_time()
            while (spent := time.process_time() - start) < SECONDS:
                run(opened, image)
                calls += 1
            best[i] = min(best[i], spent / calls)
    return best


def rows(name: str, weights: Path, boards: list[str], folder: Path) -> list[str]:
    module = create_model(name).eval()
    load_weights(module, weights / f"{name}.pt")
    shape = module.input_shape
    train = load_dataset("digits", input_shape=shape, split="train")
    test = load_dataset("digits", input_shape=shape, split="test")
    images, labels = test.batch(np.arange(len(test))), test.labels
    with torch.no_grad():
        expected = module(torch.as_tensor(images)).numpy()
    files = {}
    for recipe in RECIPES:
        bundle = edgecnn.export_model(
            module, torch.zeros(1, *shape), folder / name / recipe, formats=["onnx"], precisions=["int8"],
            recipe=recipe, calibration=train.batch(np.linspace(0, len(train) - 1, 256).astype(int)),
        )  # fmt: skip
        files[recipe] = bundle.artifact("onnx", "int8").read()
    kinds = [("int8", False), ("int8", True), *((recipe, False) for recipe in RECIPES[1:])]
    opened = [session(files[recipe], precision) for recipe, precision in kinds]
    spent = times(opened, images[:1])
    lines, base = [], {}
    for (recipe, precision), own, took in zip(kinds, opened, spent, strict=True):
        exact, got = run(session(files[recipe], True), images), run(own, images)
        noise = ((exact - expected) ** 2).sum()
        cells = [
            name, recipe, "on" if precision else "off", f"{len(files[recipe]):,}",
            f"{10 * np.log10((expected**2).sum() / noise):.1f}",
            f"{(got != exact).mean():.1%}", f"{(got.argmax(1) == labels).mean():.2%}", f"{took / spent[0]:.2f}",
        ]  # fmt: skip
        for board in boards:
            counts = count_instructions(
                EmulatedHost(load_board(board)), "onnxruntime", files[recipe], name, [images[:1]], precision=precision
            )
            base.setdefault(board, counts.instructions)
            cells.append(f"{counts.instructions / base[board]:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--models", default="lenet5,resnet8,ds_cnn")
    parser.add_argument("--boards", default="pi4,pi5,x86-64-v3")
    arguments = parser.parse_args()
    boards = arguments.boards.split(",")
    for board in boards:
        build_board(load_board(board))
    head = ["model", "recipe", "option", "bytes", "SNR, dB", "differ", "accuracy", "time", *boards]
    print(f"| {' | '.join(head)} |\n{'| --- ' * len(head)}|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models.split(","):
            rows(name, arguments.weights, boards, Path(folder))


if __name__ == "__main__":
    main()
