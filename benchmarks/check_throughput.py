"""What `edgecnn check` adds to a bare loop over the same runtime, on a data set, one thread.

For each artifact of a bundle, round by round: a check's run over the data set (images made from bytes, sent to the
agent, answers measured against the reference), then a loop that a person would write around the runtime's own call,
inputs ready in memory, with the batch of those tried that it is fastest with. Prints the medians of both, the median of
the rounds' ratios of throughput with its interval, and the CPU time that this process spends per sample beside the
agent.

    python benchmarks/check_throughput.py build/lenet5 [--samples 10000] [--rounds 9]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import edgecnn
from edgecnn.bench.statistics import median_interval
from edgecnn.data.sources import load_dataset
from edgecnn.parity.runner import Runner, stored_inputs
from edgecnn.parity.trials import data_trial
from edgecnn.targets.agent import agent
from edgecnn.targets.target import installed_targets

BATCHES = (8, 16, 32, 64, 128, 256)
LIMIT = 0.9


def bare_loop(artifact, inputs, batch):
    """Seconds for all inputs, straight through the runtime's own call."""
    runtime = {"onnx": "onnxruntime", "tflite": "litert"}[artifact.format]
    row = agent.RUNTIMES[runtime]
    session = row.open(row.module, artifact.read(), {**row.options, "threads": 1, "profile": False})
    session.infer([inputs[:batch]])

    def run():
        start = time.perf_counter()
        for i in range(0, len(inputs), batch):
            session.infer([inputs[i : i + batch]])
        return time.perf_counter() - start

    return run


def compare(bundle, artifact, target, trial, inputs, rounds):
    """Seconds of the check's runs and of the bare loop's, and the CPU seconds of this process during the former."""
    loops = {batch: bare_loop(artifact, inputs, batch) for batch in BATCHES}
    best = min(BATCHES, key=lambda batch: min(loops[batch]() for _ in range(3)))
    found = []
    with target.open(artifact.read(), artifact.path.name) as session:
        runner = Runner(bundle, artifact, session)
        runner.run(trial, None)
        for i in range(rounds):
            bare = [] if i % 2 else [loops[best]()]
            start, cpu = time.perf_counter(), time.process_time()
            runner.run(trial, None)
            ours, cpu = time.perf_counter() - start, time.process_time() - cpu
            bare = bare or [loops[best]()]
            found.append((ours, bare[0], cpu))
    return best, np.array(found).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    bundle = edgecnn.load_bundle(given.bundle)
    shape = tuple(bundle.manifest.inputs[0].shape[1:])
    raw = np.random.default_rng(0).integers(0, 256, (given.samples, *shape), dtype=np.uint8)
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "set.npz", x=raw, y=np.arange(given.samples) % 2)
        data = load_dataset(f"npz:{folder}/set.npz", input_shape=shape)
    targets = {t.runtime: t for t in installed_targets()}
    print(f"{'artifact':<24} {'check us':>9} {'bare us':>9} {'batch':>6}  throughput, 95 % interval   our CPU us")
    for artifact in bundle.artifacts:
        if artifact.format not in ("onnx", "tflite"):
            continue
        target = targets[{"onnx": "onnxruntime", "tflite": "litert"}[artifact.format]]
        inputs = stored_inputs(bundle.manifest, artifact, [data.batch(np.arange(len(data)))])[0]
        zeros = [np.zeros((len(inputs), *o.shape[1:]), np.float32) for o in bundle.manifest.outputs]
        with data_trial(bundle, data, lambda given, zeros=zeros: [z[: len(given[0])] for z in zeros], "zeros") as trial:
            best, (ours, bare, cpu) = compare(bundle, artifact, target, trial, inputs, given.rounds)
        ratio = median_interval(bare / ours)
        missed += ratio.value < LIMIT
        each = 1e6 / given.samples
        low, high = ("?" if end is None else f"{end:.3f}" for end in (ratio.low, ratio.high))
        print(
            f"{artifact.path.name:<24} {np.median(ours) * each:>9.2f} {np.median(bare) * each:>9.2f} {best:>6}"
            f"  {ratio.value:.3f} ({low} to {high})"
            f"{'' if ratio.value >= LIMIT else '  BELOW 90 %':<13} {np.median(cpu) * each:>6.2f}"
        )
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
