"""What `edgecnn bench` adds to a hand-written loop around the runtime's own call, interleaved in one process.

For each artifact of a bundle: a slice of the agent's timing loop, then one of a loop that a person would write, each on
its own session with inputs in place, many times over. Prints both medians, their difference and their ratio with its
interval (rounds are the unit), and says whether the difference is within 2 % or 1 us.

    python benchmarks/bench_overhead.py build/conv_pool build/lenet5 [--rounds 60]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import edgecnn
from edgecnn.bench.statistics import median_interval
from edgecnn.parity.runner import stored_inputs
from edgecnn.targets.agent.call_timing import time_calls
from edgecnn.targets.agent.runtime_table import RUNTIME_TABLE

CALLS = 50
LIMIT, LIMIT_NS = 0.02, 1000


def onnx_call(data, inputs):
    """IO binding as ONNX Runtime's documentation shows it, one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for value, array in zip(session.get_inputs(), inputs, strict=True):
        binding.bind_cpu_input(value.name, array)
    for value in session.get_outputs():
        binding.bind_output(value.name)
    return lambda: session.run_with_iobinding(binding)


def tflite_call(data, inputs):
    """An interpreter with its inputs set, one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    for item, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(item["index"], array)
    return interpreter.invoke


def bare_loop(call):
    """Median ns of `CALLS` calls."""
    samples = []
    for _ in range(CALLS):
        start = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - start)
    return float(np.median(samples))


def compare(artifact, inputs, rounds):
    """Medians of rounds: the agent's, the bare loop's."""
    data = artifact.read()
    runtime = {"onnx": "onnxruntime", "tflite": "litert"}[artifact.format]
    row = RUNTIME_TABLE[runtime]
    session = row.open(row.module, data, {**row.options, "profile": False})
    ours = session.bind(inputs).run
    bare = (onnx_call if artifact.format == "onnx" else tflite_call)(data, inputs)
    for _ in range(3):
        time_calls(ours, CALLS, 10.0)
        bare_loop(bare)
    found = []
    for i in range(rounds):
        pair = [lambda: float(np.median(time_calls(ours, CALLS, 10.0).samples)), lambda: bare_loop(bare)]
        order = (0, 1) if i % 2 == 0 else (1, 0)
        values = dict(zip(order, [pair[k]() for k in order], strict=True))
        found.append((values[0], values[1]))
    return np.array(found).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    missed = 0
    print(f"{'artifact':<28} {'agent us':>9} {'bare us':>9} {'differ us':>9}  ratio, 95 % interval")
    for folder in given.bundles:
        bundle = edgecnn.load_bundle(folder)
        golden = bundle.golden()
        first = [golden.inputs[i.name][:1] for i in bundle.manifest.inputs]
        for artifact in bundle.artifacts:
            if artifact.precision not in ("fp32", "int8") or artifact.format not in ("onnx", "tflite"):
                continue
            ours, bare = compare(artifact, stored_inputs(bundle.manifest, artifact, first), given.rounds)
            ratio = median_interval(ours / bare)
            differ = float(np.median(ours - bare))
            within = abs(differ) <= LIMIT_NS or abs(ratio.value - 1) <= LIMIT
            missed += not within
            print(
                f"{artifact.path.name:<28} {np.median(ours) / 1000:>9.2f} {np.median(bare) / 1000:>9.2f}"
                f" {differ / 1000:>+9.2f}  {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
                f" {'' if within else '  NOT within 2 % or 1 us'}"
            )
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
