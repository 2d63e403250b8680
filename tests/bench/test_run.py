"""Measuring bundles here. No verdict hangs on real time."""

from __future__ import annotations

import numpy as np
import pytest
from support.bench_records import ONCE, QUICK
from support.environments import python_or_skip

from edgecnn.bench.measure_bundle import bench_bundle
from edgecnn.bench.table import columns_for
from edgecnn.errors import TargetError
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import Target


def test_every_artifact_is_measured_in_every_process(report):
    assert report.complete
    assert {(r.format, r.precision, r.runtime) for r in report.results} == {
        (form, precision, runtime)
        for form, runtime in (("onnx", "onnxruntime"), ("tflite", "litert"))
        for precision in ("fp32", "int8")
    }
    for result in report.results:
        assert len(result.samples_ns) == len(result.processes) == 2
        assert result.statistics.samples == sum(map(len, result.samples_ns))
        assert all(p.load_ns > 0 and p.first_ns > 0 and p.peak_above_kb >= 0 for p in result.processes)
        assert result.macs == 12 * 12 * 9 * 4 + 6 * 6 * 9 * 4 * 8 + 8 * 3
        assert result.options["threads"] == 1
    assert [p.delegates for r in report.results if r.runtime == "litert" for p in r.processes] == [1] * 4


def test_the_host_is_described(report):
    (host,) = report.record.hosts.values()
    assert host.kind == "local"
    assert host.cores >= 1
    assert host.before.load is not None
    assert host.after is not None


def test_threads_and_batches_are_swept(single):
    found = bench_bundle(single, targets=["litert"], limits=ONCE, threads=(1, 2), batches=(1, 4))
    assert [(r.threads, r.batch) for r in found.results] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert {r.macs // r.batch for r in found.results} == {found.results[0].macs}
    assert {c.name for c in columns_for(found.results)} >= {"threads", "batch"}


def test_a_host_that_is_not_reached_is_a_failure(bundle):
    found = bench_bundle(bundle, targets=["litert", "litert@ssh://nobody@host.invalid"], limits=ONCE)
    assert not found.complete
    assert [r.host for r in found.results] == ["local", "local"]
    assert "host.invalid" in found.failures[0].target


def test_an_artifact_that_does_not_open_is_reported_and_the_others_are_measured(bundle, monkeypatch):
    from edgecnn.bench.bench_job import BenchJob

    original = BenchJob.open

    def failing(self, **options):
        if self.artifact.precision == "int8":
            raise TargetError(f"{self.name}: no such operator")
        return original(self, **options)

    monkeypatch.setattr(BenchJob, "open", failing)
    found = bench_bundle(bundle, targets=["litert"], limits=QUICK)
    assert [(r.precision, r.error is None, len(r.processes)) for r in found.results] == [
        ("fp32", True, 2),
        ("int8", False, 0),
    ]
    assert not found.complete


@pytest.mark.parametrize("runtime", ["tflite-runtime", "tflite-micro"])
def test_runtimes_in_environments_of_their_own(bundle, runtime):
    python = python_or_skip(runtime)
    target = Target(runtime=runtime, host=LocalHost(python=python, label="other"), name=f"{runtime}@other")
    found = bench_bundle(bundle, targets=[target], limits=ONCE, batches=(1, 2), profile=True)
    assert found.complete
    assert {r.batch for r in found.results} == ({1} if runtime == "tflite-micro" else {1, 2})
    for measured in found.results:
        assert {o.module for o in measured.profile.operators} >= {"conv", "down", "head"}
        assert (measured.processes[0].arena_bytes is None) == (runtime == "tflite-runtime")


def test_slices_are_bounded_and_need_bound_inputs(bundle):
    with LocalHost().start() as connection:
        session = connection.open("litert", bundle.artifact("tflite", "fp32").read(), "net.tflite")
        with pytest.raises(TargetError, match="no inputs bound"):
            session.bench(1, 1.0)
        session.bind([np.zeros((1, 12, 12, 1), np.float32)])
        assert len(session.bench(7, 100.0).samples) == 7
        assert len(session.bench(1000, 0.0).samples) == 1
        for calls, seconds in ((0, 1.0), (10**7, 1.0), (1, -1.0), (1, 1e9)):
            with pytest.raises(TargetError, match=r"is .*, not from"):
                session.bench(calls, seconds, time_limit=60)
        with pytest.raises(TargetError, match="no profiler"):
            session.profile(1)


def test_binding_gives_what_inference_gives_and_leaves_it_as_it_was(bundle):
    for form, runtime, inputs in (
        ("onnx", "onnxruntime", np.ones((2, 1, 12, 12), np.float32)),
        ("tflite", "litert", np.ones((2, 12, 12, 1), np.float32)),
    ):
        with LocalHost().start() as connection:
            session = connection.open(runtime, bundle.artifact(form, "fp32").read(), "net")
            before = session.infer([inputs * 3])
            session.bind([inputs])
            session.bench(3, 1.0)
            np.testing.assert_array_equal(before[0], session.infer([inputs * 3])[0])
