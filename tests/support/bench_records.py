"""Limits that make a measurement short, and records of measurements that never were."""

from __future__ import annotations

import msgspec
import numpy as np

from edgecnn.bench.records import Conditions, HostFacts, ProcessFacts, Record, Result, derived_record
from edgecnn.bench.warmup import BenchSettings

QUICK = BenchSettings(processes=2, seconds=0.1, warmup=0.05, samples=200)
ONCE = BenchSettings(processes=1, seconds=0.1, warmup=0.05, samples=200)
QUIET = Conditions(governor="performance")
HOST = HostFacts(kind="local", machine="aarch64", cpu="Cortex-A72", cores=4, before=QUIET, after=QUIET, memory=4 << 30)


def result(base=100_000, seed=0, **given):
    rng = np.random.default_rng(seed)
    samples = tuple(tuple((base * np.exp(rng.normal(0, 0.02, 200))).astype(int).tolist()) for _ in range(5))
    facts = ProcessFacts(
        rounds=(20,) * 10,
        load_ns=10**6,
        first_ns=10**6,
        overhead_ns=100,
        warmup_calls=10,
        steady=True,
        wall_ns=(100,) * 10,
        cpu_ns=(100,) * 10,
        khz=(1500_000,) * 10,
        resident_kb=1000,
        peak_kb=1500,
    )
    whole = {
        "artifact": "net.fp32.tflite",
        "format": "tflite",
        "precision": "fp32",
        "bytes": 1000,
        "sha256": "0" * 64,
        "target": "litert@local",
        "host": "local",
        "runtime": "litert",
        "version": "2.3.0",
        "samples_ns": samples,
        "processes": (facts,) * 5,
    }
    return Result(**{**whole, **given})


def counted(*instructions, **given):
    return result(samples_ns=(), processes=(), instructions=instructions, target="litert@pi4", **given)


def record(*results, **host):
    facts = msgspec.structs.replace(HOST, **host)
    return derived_record(
        Record(edgecnn="0", created="now", model="net", hosts={"local": facts}, results=results or (result(),))
    )
