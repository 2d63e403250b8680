"""What `edgecnn check` adds to a bare loop over the same runtime, on a data set, one thread.

For each artifact of a bundle, round by round: a check's run over the data set (images made from bytes, sent to the
agent, answers measured against the reference), then a loop that a person would write around the runtime's own call,
inputs ready in memory, with the batch of those tried that it is fastest with. Prints microseconds per sample of both,
the median of the rounds' ratios of throughput with its interval; how much of the time the agent's main thread, where
the runtime is, had a processor: what is missing from 1 is what it waited for this process, or for other load on the
machine; and the median ratio of CPU time, the bare loop's over that thread's. This process's own CPU time per sample is
the last column: it is spent on another core.

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
from edgecnn.parity.sample_sets import data_trial
from edgecnn.targets.agent.runtime_table import RUNTIME_TABLE
from edgecnn.targets.target import installed_targets

BATCHES = (1, 4, 8, 16, 32, 64, 128, 256)
LIMIT = 0.9


def bare_loop(artifact, inputs, batch):
    """Seconds for all inputs, straight through the runtime's own call."""
    runtime = {"onnx": "onnxruntime", "tflite": "litert"}[artifact.format]
    row = RUNTIME_TABLE[runtime]
    session = row.open(row.module, artifact.read(), {**row.options, "threads": 1, "profile": False})
    session.infer([inputs[:batch]])

    def run():
        start, cpu = time.perf_counter(), time.process_time()
        for i in range(0, len(inputs), batch):
            session.infer([inputs[i : i + batch]])
        return time.perf_counter() - start, time.process_time() - cpu

    return run


def agent_cpu(session):
    """CPU seconds of the agent so far."""
    return int(Path(f"/proc/{session.pid}/schedstat").read_text().split()[0]) / 1e9


def compare(bundle, artifact, target, data, inputs, rounds):
    """The best batch, and for each round seconds of: check, bare loop; CPU of: agent, bare loop, this process."""
    loops = {batch: bare_loop(artifact, inputs, batch) for batch in BATCHES}
    best = min(BATCHES, key=lambda batch: min(loops[batch]()[0] for _ in range(3)))
    found = []
    with target.host.start(target.environment) as other, target.host.start(target.environment) as connection:
        first, session = (
            c.open(target.runtime, artifact.read(), artifact.path.name, threads=1) for c in (other, connection)
        )
        session.pid = connection.pid
        runner = Runner(bundle, artifact, session)
        with data_trial(bundle, data, Runner(bundle, artifact, first).infer, "itself") as trial:
            runner.run(trial, None)  # the reference is asked, and its answers are kept
            for i in range(rounds):
                bare = loops[best]() if i % 2 else None
                start, own, agents = time.perf_counter(), time.process_time(), agent_cpu(session)
                runner.run(trial, None)
                ours, agents = time.perf_counter() - start, agent_cpu(session) - agents
                own = time.process_time() - own
                bare = bare or loops[best]()
                found.append((ours, bare[0], agents, bare[1], own))
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
    print(f"{'artifact':<22}{'check':>8}{'bare':>8}{'batch':>6}  {'throughput':<24}{'busy':>6}{'CPU':>6}{'our CPU':>9}")
    for artifact in bundle.artifacts:
        if artifact.format not in ("onnx", "tflite"):
            continue
        target = targets[{"onnx": "onnxruntime", "tflite": "litert"}[artifact.format]]
        inputs = stored_inputs(bundle.manifest, artifact, [data.batch(np.arange(len(data)))])[0]
        best, (ours, bare, agents, bare_cpu, own) = compare(bundle, artifact, target, data, inputs, given.rounds)
        ratio = median_interval(bare / ours)
        missed += ratio.value < LIMIT
        each = 1e6 / given.samples
        low, high = ("?" if end is None else f"{end:.2f}" for end in (ratio.low, ratio.high))
        print(
            f"{artifact.path.name:<22}{np.median(ours) * each:>8.1f}{np.median(bare) * each:>8.1f}{best:>6}"
            f"  {f'{ratio.value:.2f} ({low} to {high})':<18}{'' if ratio.value >= LIMIT else 'BELOW':<6}"
            f"{np.median(agents / ours):>6.2f}{np.median(bare_cpu / agents):>6.2f}{np.median(own) * each:>9.2f}"
        )
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
