"""Latency of the zoo against exports of other tools: same models, same runtimes, files taking turns in one process.

    python -m venv build/peers
    build/peers/bin/pip install torch==2.13.0 'litert-torch==0.10.*'
    python benchmarks/side_by_side.py --peers build/peers/bin/python [MODEL ...]

Peers: litert-torch with its quantizer (static int8, per channel), with its default inputs and with channels-last
inputs; torch.onnx's exporter, and ONNX Runtime's ``quantize_static`` (QDQ, per channel, min-max; both types of
activations) on its file. Weights are seeded; batch norms have random scales and the statistics of the calibration data.

Prints for each model and runtime the medians of all files, with one thread, one sample and bound inputs. Then it prints
the ratios that have limits, each the median over rounds with its 95 % interval: ours to the best peer in LiteRT (at
most 1.02; in int8 ours with ``io="int8"``, since litert-torch's quantizer leaves integer inputs and outputs), and int8
to our own fp32 in ONNX Runtime (at most 1). A ratio whose whole interval lies above its limit is marked, and the exit
status is then 1. In ONNX Runtime the ratios of ours to the peers have no limit.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from bench_overhead import onnx_call, tflite_call
from int8_against_ort import quantize_static, settle

import edgecnn
from edgecnn.bench.percentiles import median_interval
from edgecnn.models import ZOO, create_model

CALIBRATION, CALLS = 64, 20
LITERT_LIMIT, ORT_LIMIT = 1.02, 1.0
OURS_LIKE_PEERS = "ours --io int8.tflite"
Call = Callable[[], object]


def export_all(name: str, folder: Path, peers: str | None) -> dict[str, Path]:
    """Every file of a model, by its name in the table."""
    shape = ZOO[name].input_shape
    rng = np.random.default_rng(0)
    calibration = rng.standard_normal((CALIBRATION, *shape), dtype=np.float32)
    torch.manual_seed(0)
    model = settle(create_model(name), calibration)
    bundle = edgecnn.export_model(
        model, torch.zeros(1, *shape), folder / "ours", precisions=("fp32", "int8"), calibration=calibration
    )
    files = {f"ours {a.precision}.{a.format}": a.path for a in bundle.artifacts}
    bundle = edgecnn.export_model(
        model, torch.zeros(1, *shape), folder / "io", precisions=("int8",), calibration=calibration, io="int8"
    )
    files[OURS_LIKE_PEERS] = bundle.artifact("tflite", "int8").path
    files["torch.onnx fp32.onnx"] = folder / "peer.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = torch.onnx.export  # noqa: TID251 - it stands here to be compared with
        peer(model, (torch.zeros(1, *shape),), str(folder / "peer.onnx"), dynamo=False)
    for kind in ("QUInt8", "QInt8"):
        files[f"quantize_static {kind} int8.onnx"] = folder / f"peer.{kind}.onnx"
        quantize_static(folder / "peer.onnx", folder / f"peer.{kind}.onnx", calibration, kind)
    if peers is not None:
        torch.save(model.state_dict(), folder / "weights.pt")
        np.save(folder / "calibration.npy", calibration)
        files |= litert_files(name, folder, peers)
    return files


def litert_files(name: str, folder: Path, python: str) -> dict[str, Path]:
    root = Path(__file__).resolve().parent
    done = subprocess.run(
        [python, str(root / "peer_litert.py"), name, str(folder)],
        env={**os.environ, "PYTHONPATH": str(root.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["(it said nothing)"])[-1]
        print(f"{name}: litert-torch failed, the files that it wrote before are used: {last}", file=sys.stderr)
    found = {}
    for precision in ("fp32", "int8"):
        for form in ("", ".nhwc"):
            file = folder / f"peer.{precision}{form}.tflite"
            if file.exists():
                found[f"litert-torch{form.replace('.', ' ')} {precision}.tflite"] = file
    return found


def call_of(file: Path) -> Call:
    """A call that runs one inference with bound inputs: random real values or random integers."""
    data, rng = file.read_bytes(), np.random.default_rng(1)
    if file.suffix == ".onnx":
        import onnxruntime

        (spec,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).get_inputs()
        shape = [n if isinstance(n, int) else 1 for n in spec.shape]
        return onnx_call(data, [rng.standard_normal(shape, dtype=np.float32)])
    from ai_edge_litert.interpreter import Interpreter

    (item,) = Interpreter(model_content=data).get_input_details()
    real = rng.standard_normal(item["shape"], dtype=np.float32)
    if item["dtype"] == np.float32:
        return tflite_call(data, [real])
    scale, zero = item["quantization"]
    return tflite_call(data, [np.clip(np.rint(real / scale) + zero, -128, 127).astype(item["dtype"])])


def medians(calls: Mapping[str, Call], rounds: int) -> dict[str, np.ndarray]:
    """Median time in ns of CALLS calls of each file in every round; the order of the files rotates."""
    for call in calls.values():
        for _ in range(3 * CALLS):
            call()
    names, found = list(calls), {name: [] for name in calls}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            call, times = calls[name], []
            for _ in range(CALLS):
                start = time.perf_counter_ns()
                call()
                times.append(time.perf_counter_ns() - start)
            found[name].append(float(np.median(times)))
    return {name: np.array(times) for name, times in found.items()}


def ratio(name: str, times: Mapping[str, np.ndarray], ours: str, other: str, limit: float) -> bool:
    """Print a ratio; returns whether it is within its limit, or may be."""
    found = median_interval(times[ours] / times[other])
    above = found.low > limit
    marked = f"  ABOVE {limit}" if above else ""
    print(
        f"{name:<20}{f'{ours} over {other}':<58}{found.value:8.3f} ({found.low:.3f} to {found.high:.3f}){marked}",
        flush=True,
    )
    return not above


def compare(name: str, given: argparse.Namespace, folder: Path) -> bool:
    """Print a model's medians and ratios; returns whether all are within their limits."""
    files = export_all(name, folder, given.peers)
    good = True
    for suffix, limit in ((".tflite", LITERT_LIMIT), (".onnx", np.inf)):
        times = medians({row: call_of(f) for row, f in files.items() if f.suffix == suffix}, given.rounds)
        for row in sorted(times):
            print(f"{name:<20}{row:<58}{np.median(times[row]) / 1000:8.2f} us{files[row].stat().st_size:>12,} bytes")
        if suffix == ".onnx":
            good &= ratio(name, times, "ours int8.onnx", "ours fp32.onnx", ORT_LIMIT)
        for precision in ("fp32", "int8"):
            peers = [row for row in times if row.endswith(f"{precision}{suffix}") and not row.startswith("ours")]
            if peers:
                best = min(peers, key=lambda row: float(np.median(times[row])))
                ours = f"ours {precision}{suffix}"
                good &= ratio(name, times, OURS_LIKE_PEERS if ours == "ours int8.tflite" else ours, best, limit)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="of the zoo; default: all")
    parser.add_argument("--peers", metavar="PYTHON", help="a Python with litert-torch; without it LiteRT has no peers")
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    if unknown := set(given.models) - set(ZOO):
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(ZOO)}")
    if given.rounds < 10:
        parser.error("at least 10 --rounds: fewer have no interval")
    logging.disable(logging.WARNING)
    failed = []
    for name in given.models or ZOO:
        with tempfile.TemporaryDirectory() as folder:
            if not compare(name, given, Path(folder)):
                failed.append(name)
    if failed:
        sys.exit(f"above a limit: {', '.join(failed)}")


if __name__ == "__main__":
    main()
