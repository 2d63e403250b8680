"""Two records compared: what is slower, what is noise, and what cannot be compared."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support.bench_records import counted, record, result

from edgecnn.bench.records import Conditions
from edgecnn.bench.regression import compare_records
from edgecnn.errors import UsageError


def test_slower_fails_and_unchanged_does_not():
    old = record(result(seed=1))
    assert not compare_records(old, record(result(seed=2))).failed
    slower = compare_records(old, record(result(110_000, seed=2)))
    assert slower.failed
    assert slower.changes[0].judgement == "slower"
    assert not compare_records(old, record(result(110_000, seed=2)), max_slowdown=1.2).failed
    assert compare_records(record(result(110_000)), old).changes[0].judgement == "faster"


def test_a_slowdown_within_noise_does_not_fail():
    rng = np.random.default_rng(3)
    levels = [100_000, 100_000, 100_000, 100_000, 180_000]  # one process of five had a bad neighbour
    samples = tuple(tuple((level * np.exp(rng.normal(0, 0.02, 200))).astype(int).tolist()) for level in levels)
    found = compare_records(record(result(seed=1)), record(result(samples_ns=samples)))
    assert found.changes[0].low < 1.05 < found.changes[0].ratio
    assert not found.failed


def test_a_machine_that_had_a_bad_day_does_not_fail():
    busy = msgspec.structs.replace(result().processes[0], cpu_ns=(50,) * 10)
    found = compare_records(record(result(seed=1)), record(result(150_000, processes=(busy,) * 5)))
    assert found.changes[0].low > 1.05
    assert not found.failed
    assert found.changes[0].judgement == "invalid"
    assert "had a processor for only 50%" in found.changes[0].doubts[0]


def test_instructions_have_a_limit_of_their_own():
    old = record(counted(2_000_000, 2_000_000))
    for same in (2_000_000, 2_000_400, 1_999_600, *range(2_000_000, 2_000_007)):  # ten runs, environments among them
        assert not compare_records(old, record(counted(same, same))).failed
    wider = compare_records(old, record(counted(2_020_000, 2_020_000)))  # a layer widened by 1 %
    assert wider.failed
    assert wider.changes[0].what == "instructions"
    assert not compare_records(old, record(counted(2_020_000)), max_instructions=1.02).failed


@pytest.mark.parametrize(
    "other",
    [{"cpu": "Cortex-A76"}, {"cores": 2}, {"machine": "x86_64"}, {"before": Conditions(governor="powersave")}],
)
def test_hosts_that_differ_are_refused_unless_told(other):
    with pytest.raises(UsageError, match="measured on different hosts"):
        compare_records(record(), record(**other))
    found = compare_records(record(), record(**other), any_host=True)
    assert len(found.differences) == 1


def test_what_is_not_known_of_a_host_is_no_difference():
    assert compare_records(record(), record(cpu=None, before=Conditions())).differences == ()


def test_what_one_record_lacks_is_named():
    found = compare_records(record(result(), result(batch=8)), record(result(), result(threads=4)))
    assert (found.only_old, found.only_new) == (
        ("net.fp32.tflite on litert@local, batch 8",),
        ("net.fp32.tflite on litert@local, 4 threads",),
    )
    with pytest.raises(UsageError, match="no result in common"):
        compare_records(record(result()), record(result(batch=8)))


def test_another_runtime_version_is_said():
    found = compare_records(record(), record(result(version="2.4.0")))
    assert "litert 2.3.0 before, 2.4.0 now" in found.changes[0].doubts
