"""Instructions per inference of the zoo on emulated boards: the table in docs/boards.md.

``python benchmarks/instruction_counts.py [--boards B,...] [--models M,...] [--write]`` builds missing boards, exports
the models of the zoo with seeded random weights in fp32 and int8, and counts one image on one thread: the median of
five inferences after two that are not counted, each file in a separate process. ``--write`` puts the table into the
page; without it, the table is printed. The counts do not depend on weights and images, except for a few instructions
with which Python reads results.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import edgecnn
from edgecnn.models import create_model
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import InstructionCounts, build_board, count_instructions
from edgecnn.targets.hosts.emulated import EmulatedHost

PAGE = Path(__file__).parent.parent / "docs" / "boards.md"
BEGIN, END = "<!-- counts: benchmarks/instruction_counts.py -->", "<!-- end of counts -->"
RUNTIMES = {"litert": "tflite", "onnxruntime": "onnx", "tflite-runtime": "tflite"}
PRECISIONS = ("fp32", "int8")

Row = tuple[str, str, str]  # runtime, model, precision


def artifacts(models: list[str], folder: Path) -> dict[Row, tuple[bytes, np.ndarray]]:
    """Every file to count, with an input image in its layout and type."""
    made = {}
    for name in models:
        torch.manual_seed(0)
        module = create_model(name).eval()
        x = np.random.default_rng(0).standard_normal((64, *module.input_shape), dtype=np.float32)
        bundle = edgecnn.export_model(
            module, torch.as_tensor(x[:1]), folder / name, precisions=PRECISIONS, calibration=x
        )
        for runtime, form in RUNTIMES.items():
            axes = bundle.manifest.inputs[0].axes[form]
            image = np.ascontiguousarray(x[:1].transpose(axes))
            for precision in PRECISIONS:
                made[runtime, name, precision] = (bundle.artifact(form, precision).read(), image)
    return made


def counted(
    boards: list[str], files: dict[Row, tuple[bytes, np.ndarray]], workers: int
) -> dict[tuple[Row, str], InstructionCounts]:
    """Counts by row and board."""
    hosts = {name: EmulatedHost(load_board(name)) for name in boards}
    for host in hosts.values():
        build_board(host.board)
    with ThreadPoolExecutor(workers) as pool:
        work = {
            (row, name): pool.submit(count_instructions, host, row[0], data, row[1], [x])
            for row, (data, x) in files.items()
            for name, host in hosts.items()
            if row[0] in host.board.runtimes
        }
        return {key: future.result() for key, future in work.items()}


def table(boards: list[str], counts: dict[tuple[Row, str], InstructionCounts]) -> str:
    """The counts in millions, with the number of dot-product instructions of four 8-bit numbers."""
    lines = [f"| runtime | model | precision | {' | '.join(boards)} |", "| --- " * (3 + len(boards)) + "|"]
    for row in dict.fromkeys(row for row, _ in counts):
        cells = []
        for board in boards:
            found = counts.get((row, board))
            if found is None:
                cells.append("-")
                continue
            dots = f" ({found.kinds['dot'] / 1e6:.3f} dot)" if found.kinds.get("dot") else ""
            cells.append(f"{found.instructions / 1e6:.3f}{dots}")
        version = next(found.version for (other, _), found in counts.items() if other == row)
        lines.append(f"| {row[0]} {version} | {row[1]} | {row[2]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", default="pi2,pi3,pi4,pi5")
    parser.add_argument("--models", default="conv_pool,lenet5,resnet8", help="of the zoo; large ones take minutes each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    boards = arguments.boards.split(",")
    with tempfile.TemporaryDirectory() as folder:
        text = table(boards, counted(boards, artifacts(arguments.models.split(","), Path(folder)), arguments.workers))
    if not arguments.write:
        print(text)
        return
    page = PAGE.read_text()
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")


if __name__ == "__main__":
    main()
