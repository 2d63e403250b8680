"""Our int8 against ONNX Runtime's own ``quantize_static``: the same models, calibration and evaluation data.

``python benchmarks/int8_against_ort.py [MODEL ...] [--recipe R] [--runs N]`` exports each model (weights of a fixed
seed), has ``quantize_static`` quantize our fp32 ONNX file (QDQ, per channel, min-max), and prints a row for every file:

- top-1: share of the evaluation inputs on which the best class is that of the float model in torch
- SNR: energy of the float logits over that of their error, in dB
- latency: median of plain ``run`` calls with one sample, one thread, the files taking turns in one process

It ends with status 1 where our SNR is below theirs. Latency never fails it.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgecnn
from edgecnn.models import ZOO, create_model
from edgecnn.parity.runner import Runner
from edgecnn.targets.hosts.local import LocalHost

CALIBRATION, EVALUATION, SEED, BLOCK = 200, 256, 0, 20
Array = np.ndarray


def conv_bn(
    inputs: int, outputs: int, kernel: int | tuple[int, int], **given: int | tuple[int, int]
) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, bias=False, **given), nn.BatchNorm2d(outputs), nn.ReLU()]


def separable(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    depthwise = conv_bn(inputs, inputs, 3, stride=stride, padding=1, groups=inputs)
    return [*depthwise, *conv_bn(inputs, outputs, 1)]


def classifier(channels: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def ds_cnn() -> nn.Module:
    """Keyword spotting of MLPerf Tiny."""
    blocks = [layer for _ in range(4) for layer in separable(64, 64)]
    return nn.Sequential(*conv_bn(1, 64, (10, 4), stride=2, padding=(5, 1)), *blocks, *classifier(64, 12))


def mobilenet() -> nn.Module:
    """MobileNetV1-0.25, the visual wake words of MLPerf Tiny."""
    wide = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    layers, channels = conv_bn(3, 8, 3, stride=2, padding=1), 8
    for outputs, stride in wide:
        layers += separable(channels, outputs, stride)
        channels = outputs
    return nn.Sequential(*layers, *classifier(channels, 2))


MODELS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    **{name: (lambda name=name: create_model(name), entry.input_shape) for name, entry in ZOO.items()},
    "ds_cnn": (ds_cnn, (1, 49, 10)),
    "mobilenet_025": (mobilenet, (3, 96, 96)),
}


def build(name: str, inputs: Array) -> nn.Module:
    """The model with seeded weights, its batch norms with the statistics of ``inputs``."""
    torch.manual_seed(SEED)
    model = MODELS[name][0]()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(inputs))
    return model.eval()


def quantize_static(source: Path, target: Path, inputs: Array, activations: str) -> None:
    from onnxruntime import quantization as ort

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self.samples: Iterator[Array] = iter(inputs)

        def get_next(self) -> dict[str, Array] | None:
            sample = next(self.samples, None)
            return None if sample is None else {input_name(source): sample[None]}

    ort.quantize_static(
        source,
        target,
        Reader(),
        quant_format=ort.QuantFormat.QDQ,
        per_channel=True,
        activation_type=ort.QuantType[activations],
        weight_type=ort.QuantType.QInt8,
        calibrate_method=ort.CalibrationMethod.MinMax,
    )


def session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def input_name(path: Path) -> str:
    return session(path).get_inputs()[0].name


def ours_on(bundle: edgecnn.Bundle, form: str, runtime: str, inputs: Array) -> Array:
    artifact = bundle.artifact(form, "int8")
    with LocalHost().start() as host, host.open(runtime, artifact.read(), artifact.path.name, threads=1) as opened:
        return Runner(bundle, artifact, opened).infer([inputs])[0]


def snr(logits: Array, reference: Array) -> float:
    signal, noise = (float((a.astype(np.float64) ** 2).sum()) for a in (reference, reference - logits))
    return 10 * np.log10(signal / noise) if noise else np.inf


def latencies(paths: Mapping[str, Path], sample: Array, runs: int) -> dict[str, float]:
    """Median microseconds of each file, in turns of BLOCK calls; the first turn is not counted."""
    sessions = {name: session(path) for name, path in paths.items()}
    feeds = {name: {s.get_inputs()[0].name: sample} for name, s in sessions.items()}
    times: dict[str, list[int]] = {name: [] for name in paths}
    for turn in range(runs // BLOCK + 1):
        for name, opened in sessions.items():
            for _ in range(BLOCK):
                start = time.perf_counter_ns()
                opened.run(None, feeds[name])
                times[name] += [time.perf_counter_ns() - start] * bool(turn)
    return {name: statistics.median(t) / 1000 for name, t in times.items()}


def compare(name: str, recipe: str, runs: int, folder: Path) -> bool:
    """Print a model's rows; whether our SNR is at least theirs."""
    rng = np.random.default_rng(SEED)
    counts = (CALIBRATION, EVALUATION)
    calibration, evaluation = (rng.standard_normal((n, *MODELS[name][1]), dtype=np.float32) for n in counts)
    model = build(name, calibration)
    with torch.no_grad():
        reference = model(torch.from_numpy(evaluation)).numpy()
    given = {"precisions": ("fp32", "int8"), "recipe": recipe, "calibration_samples": CALIBRATION}
    bundle = edgecnn.export_model(
        model, torch.zeros(1, *MODELS[name][1]), folder / name, calibration=calibration, **given
    )
    files = {"ours fp32, onnxruntime": bundle.artifact("onnx", "fp32").path}
    for kind in ("QUInt8", "QInt8"):
        files[f"quantize_static {kind}"] = target = folder / f"{name}.{kind}.onnx"
        quantize_static(files["ours fp32, onnxruntime"], target, calibration, kind)
    logits = {row: session(f).run(None, {input_name(f): evaluation})[0] for row, f in files.items()}
    files["ours int8, onnxruntime"] = bundle.artifact("onnx", "int8").path
    microseconds = latencies(files, evaluation[:1], runs)
    files["ours int8, litert"] = bundle.artifact("tflite", "int8").path
    logits["ours int8, onnxruntime"] = ours_on(bundle, "onnx", "onnxruntime", evaluation)
    logits["ours int8, litert"] = ours_on(bundle, "tflite", "litert", evaluation)
    ratios = {row: snr(a, reference) for row, a in logits.items()}
    for row, file in files.items():
        agreed = 100 * (logits[row].argmax(1) == reference.argmax(1)).mean()
        took = f"{microseconds[row]:10.1f}" if row in microseconds else ""
        print(f"{name:<14}{row:<24}{agreed:7.1f}{ratios[row]:9.2f}{file.stat().st_size:10,}{took}", flush=True)
    best = {who: [r for row, r in ratios.items() if row.startswith(who)] for who in ("ours int8", "quantize_static")}
    return min(best["ours int8"]) >= max(best["quantize_static"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--recipe", default="int8")
    parser.add_argument("--runs", type=int, default=2000, help="timed calls of each file")
    given = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
    logging.disable(logging.WARNING)  # quantize_static recommends its own preprocessing, which our file has no need of
    print(f"{'model':<14}{'file, where it ran':<24}{'top-1 %':>7}{'SNR dB':>9}{'bytes':>10}{'us':>10}")
    with tempfile.TemporaryDirectory() as folder:
        below = [n for n in given.models or MODELS if not compare(n, given.recipe, given.runs, Path(folder))]
    if below:
        sys.exit(f"our SNR is below quantize_static's on {', '.join(below)}")


if __name__ == "__main__":
    main()
