"""Our int8 compared with ONNX Runtime's ``quantize_static`` on the same models, calibration and evaluation data.

``python benchmarks/int8_against_ort.py [MODEL ...] [--recipe R] [--seed S]`` exports each model (weights of a fixed
seed), lets ``quantize_static`` quantize our fp32 ONNX file (QDQ, per channel, min-max), and prints a row for every
file:

- top-1: share of the evaluation inputs with the best class of the float model in torch
- SNR: energy of the float logits over that of their error, in dB
- latency: median of plain ``run`` calls with one sample, one thread, the files taking turns in one process

Ratios of latencies follow, of our int8 file to our fp32 file and to ``quantize_static`` with int8 activations: of the
medians, and of the fastest calls, which other work on the machine disturbs least.

The exit status is 1 if our SNR is lower than theirs. Latency never fails it.
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

CALIBRATION, EVALUATION, BLOCK = 200, 256, 20
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
    """The keyword spotting model of MLPerf Tiny."""
    blocks = [layer for _ in range(4) for layer in separable(64, 64)]
    return nn.Sequential(*conv_bn(1, 64, (10, 4), stride=2, padding=(5, 1)), *blocks, *classifier(64, 12))


def mobilenet() -> nn.Module:
    """MobileNetV1-0.25, the visual wake words model of MLPerf Tiny."""
    wide = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    layers, channels = conv_bn(3, 8, 3, stride=2, padding=1), 8
    for outputs, stride in wide:
        layers += separable(channels, outputs, stride)
        channels = outputs
    return nn.Sequential(*layers, *classifier(channels, 2))


_FROM_THE_ZOO = ("conv_pool", "lenet5", "resnet8")
MODELS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    **{name: (lambda name=name: create_model(name), ZOO[name].input_shape) for name in _FROM_THE_ZOO},
    "ds_cnn": (ds_cnn, (1, 49, 10)),
    "mobilenet_025": (mobilenet, (3, 96, 96)),
}


def build(name: str, inputs: Array, seed: int) -> nn.Module:
    """The model with seeded weights and the batch norm statistics of ``inputs``."""
    torch.manual_seed(seed)
    return settle(MODELS[name][0](), inputs)


def settle(model: nn.Module, inputs: Array) -> nn.Module:
    """Give batch norms random scales and shifts and the statistics of ``inputs``, and switch to eval mode.

    The logits of a last linear layer are centred, since otherwise one class would win on every input, and the SNR would
    be that of a constant.
    """
    x = torch.from_numpy(inputs)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # this batch's statistics alone
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, 0.0, 1.0)
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        model.train()(x)
        outputs = model.eval()(x)
        if linear and outputs.ndim == 2:
            linear[-1].bias -= outputs.mean(0)
    return model


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
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact on x86 without VNNI, for both sides
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


def latencies(paths: Mapping[str, Path], sample: Array, runs: int) -> dict[str, list[int]]:
    """Time of each file's calls in ns, in turns of BLOCK calls; the first turn is not counted."""
    sessions = {name: session(path) for name, path in paths.items()}
    feeds = {name: {s.get_inputs()[0].name: sample} for name, s in sessions.items()}
    times: dict[str, list[int]] = {name: [] for name in paths}
    for turn in range(runs // BLOCK + 1):
        for name, opened in sessions.items():
            for _ in range(BLOCK):
                start = time.perf_counter_ns()
                opened.run(None, feeds[name])
                times[name] += [time.perf_counter_ns() - start] * bool(turn)
    return times


def print_ratios(name: str, times: Mapping[str, list[int]]) -> None:
    """Print the ratios of our int8 file's latency to those of other files."""
    ours = times["ours int8, onnxruntime"]
    for other in ("ours fp32, onnxruntime", "quantize_static QInt8"):
        medians = statistics.median(ours) / statistics.median(times[other])
        fastest = min(ours) / min(times[other])
        print(
            f"{name:<14}ours int8 over {other}: {medians:.2f} of the medians, {fastest:.2f} of the fastest", flush=True
        )


def compare(name: str, given: argparse.Namespace, folder: Path) -> bool:
    """Print a model's rows; returns whether our SNR is at least theirs."""
    rng = np.random.default_rng(given.seed)
    counts, shape = (CALIBRATION, EVALUATION), MODELS[name][1]
    calibration, evaluation = (rng.standard_normal((n, *shape), dtype=np.float32) for n in counts)
    model = build(name, calibration, given.seed)
    with torch.no_grad():
        reference = model(torch.from_numpy(evaluation)).numpy()
    bundle = edgecnn.export_model(
        model,
        torch.zeros(1, *shape),
        folder / name,
        precisions=("fp32", "int8"),
        calibration=calibration,
        calibration_samples=CALIBRATION,
        recipe=given.recipe,
    )
    float_file = bundle.artifact("onnx", "fp32").path
    files = {"ours fp32, onnxruntime": float_file}
    for kind in ("QUInt8", "QInt8"):
        files[f"quantize_static {kind}"] = folder / f"{name}.{kind}.onnx"
        quantize_static(float_file, folder / f"{name}.{kind}.onnx", calibration, kind)
    logits = {row: session(f).run(None, {input_name(f): evaluation})[0] for row, f in files.items()}
    for form, runtime in (("onnx", "onnxruntime"), ("tflite", "litert")):
        row = f"ours int8, {runtime}"
        files[row] = bundle.artifact(form, "int8").path
        logits[row] = ours_on(bundle, form, runtime, evaluation)
    times = latencies({r: f for r, f in files.items() if f.suffix == ".onnx"}, evaluation[:1], given.runs)
    ratios = {row: snr(a, reference) for row, a in logits.items()}
    for row, file in files.items():
        agreed = 100 * (logits[row].argmax(1) == reference.argmax(1)).mean()
        took = f"{statistics.median(times[row]) / 1000:10.1f}" if row in times else ""
        print(f"{name:<14}{row:<24}{agreed:7.1f}{ratios[row]:9.2f}{file.stat().st_size:10,}{took}", flush=True)
    print_ratios(name, times)
    ours, theirs = ([r for row, r in ratios.items() if row.startswith(w)] for w in ("ours int8", "quantize_static"))
    return min(ours) >= max(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--recipe", default="int8")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the data")
    parser.add_argument("--runs", type=int, default=2000, help="timed calls of each file")
    given = parser.parse_args()
    if unknown := set(given.models) - set(MODELS):
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
    logging.disable(logging.WARNING)  # quantize_static recommends its own preprocessing, which our file has no need of
    print(f"{'model':<14}{'file, where it ran':<24}{'top-1 %':>7}{'SNR dB':>9}{'bytes':>10}{'us':>10}")
    with tempfile.TemporaryDirectory() as folder:
        below = [name for name in given.models or MODELS if not compare(name, given, Path(folder))]
    if below:
        sys.exit(f"our SNR is below quantize_static's on {', '.join(below)}")


if __name__ == "__main__":
    main()
