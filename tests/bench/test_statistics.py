"""Statistics against latencies whose truth is known. No test takes real time: clocks are fakes, seeds are fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.bench import FakeClock, FakeSubject, Machine

from edgecnn.bench.percentiles import Interval, median_interval, paired_ratio, ratio, summarize
from edgecnn.bench.quantiles import order_ranks, t_quantile
from edgecnn.bench.sampling import measure
from edgecnn.bench.validity import (
    _THROTTLING as HINTS,
)
from edgecnn.bench.validity import (
    check_frequency,
    check_load,
    check_throttled,
    check_trace,
    check_warmup,
    two_modes,
)
from edgecnn.bench.warmup import BenchSettings, is_precise, is_steady
from edgecnn.targets.hosts.machine_info import THROTTLED

SHORT = BenchSettings(processes=5, seconds=1.0, warmup=0.2, samples=600, slice_seconds=0.005)


def run(machine, seed, limits=SHORT):
    clock = FakeClock()
    subject = FakeSubject(machine, clock, seed)
    (trace,) = measure([subject], limits, rng=np.random.default_rng(seed), clock=clock)
    return trace


def rounds(trace):
    return [process.rounds for process in trace.processes]


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 4, 2.77645), (0.95, 30, 1.69726), (0.975, 1e6, 1.95996)],
)
def test_t_quantiles_are_those_of_the_tables(probability, freedom, value):
    assert t_quantile(probability, freedom) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("samples", "quantile", "ranks"),
    # Of five values no two enclose the median with 95 % (1 - 2 / 2**5 is 93.75 %); of six the outermost do.
    [(5, 0.5, None), (6, 0.5, (0, 5)), (100, 0.5, (39, 60)), (100, 0.99, None)],
)
def test_order_ranks(samples, quantile, ranks):
    assert order_ranks(samples, quantile, 0.95) == ranks


def test_order_ranks_by_the_normal_curve_continue_the_exact_ones():
    exact, normal = order_ranks(5000, 0.9, 0.95), order_ranks(5001, 0.9, 0.95)
    assert np.abs(np.subtract(exact, normal)).max() <= 2


@pytest.mark.parametrize("samples", [12, 101, 1000])
def test_median_intervals_cover_as_often_as_they_say(samples):
    rng = np.random.default_rng(samples)
    hits = 0
    for _ in range(400):
        found = median_interval(np.exp(rng.normal(0, 1, samples)))
        hits += found.low <= 1 <= found.high
    assert hits / 400 >= 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / 400)


def test_percentiles_of_a_known_distribution_are_recovered_within_their_intervals():
    machine = Machine(spikes=0.001)
    rng = np.random.default_rng(0)
    n = 400_000
    noise = np.exp(rng.normal(0, machine.slow, n) + rng.normal(0, machine.noise, n))
    drawn = machine.base * noise * np.where(rng.random(n) < machine.spikes, 3, 1)
    truth = dict(zip(("p50", "p90", "p99"), np.percentile(drawn, (50, 90, 99)), strict=True))
    hits = dict.fromkeys(truth, 0)
    for seed in range(60):
        summary = summarize(rounds(run(machine, seed)))
        for name, value in truth.items():
            found = getattr(summary, name)
            hits[name] += found.low <= value <= found.high
            assert found.value == pytest.approx(value, rel=0.05 if name != "p99" else 0.15)
    # 95 of 100, less what 60 draws may miss by chance (2.6 standard deviations)
    assert all(count / 60 >= 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / 60) for count in hits.values()), hits


def test_a_planted_slowdown_is_caught_and_a_null_change_raises_no_alarm():
    caught = alarms = outside = 0
    for seed in range(100):
        old, same = rounds(run(Machine(), 3 * seed)), rounds(run(Machine(), 3 * seed + 1))
        slower = rounds(run(Machine(base=110_000), 3 * seed + 2))
        caught += ratio(slower, old).low > 1.05
        null = ratio(same, old)
        alarms += null.low > 1.05
        outside += not null.low <= 1 <= null.high
    assert caught >= 95
    assert alarms <= 5
    assert outside <= 11  # 5 expected; 2.6 standard deviations more


def test_taking_turns_takes_out_what_both_met():
    """A machine that slows down by half within the run: the ratio of two that take turns is not touched by that."""
    machine = Machine(shape=lambda since: 1 + since)
    for seed in range(10):
        clock = FakeClock()
        pair = [FakeSubject(machine, clock, 2 * seed), FakeSubject(Machine(150_000, shape=machine.shape), clock, 99)]
        old, new = measure(pair, SHORT, rng=np.random.default_rng(seed), clock=clock)
        found = paired_ratio(rounds(new), rounds(old))
        assert found.value == pytest.approx(1.5, rel=0.03)
        assert found.half_width < 0.05


def test_one_process_and_one_round_give_what_they_can():
    one = [np.full(10, 1000) for _ in range(8)]
    exact = pytest.approx(1000)
    assert summarize([one]).p50 == Interval(value=exact, low=exact, high=exact)
    alone = summarize([[np.array([5, 7])]])
    assert (alone.p50.low, alone.p50.half_width, alone.minimum) == (None, math.inf, 5)
    assert ratio([[np.array([10])]], [[np.array([5])]]) == Interval(value=pytest.approx(2))


def test_summary_says_the_same_of_the_same_samples():
    trace = rounds(run(Machine(), 7))
    assert summarize(trace) == summarize(trace)


def test_throughput_counts_the_batch():
    assert summarize([[np.array([1_000_000])]], batch=8).throughput.value == pytest.approx(8000)


@pytest.mark.parametrize(
    ("windows", "steady"),
    [
        ([1.0] * 5, False),
        ([1.0] * 6, True),
        ([2.0, 1.8, 1.6, 1.4, 1.2, 1.0], False),
        ([2.0, 1.8, 1.6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], True),
        ([1.0, 1.04, 0.97, 1.03, 0.98, 1.01], True),
    ],
)
def test_warm_up_ends_when_the_newer_windows_are_like_the_older(windows, steady):
    assert is_steady(windows) is steady


def test_precision_needs_rounds_that_agree():
    assert not is_precise([1.0] * 9, BenchSettings())
    assert is_precise([1.0] * 10, BenchSettings())
    assert not is_precise([1.0, 1.2] * 5, BenchSettings())


def test_sampling_stops_when_precise_and_goes_on_when_not():
    quiet = run(Machine(between=0, slow=0, noise=0.001, spikes=0), 1, BenchSettings(seconds=50, samples=10**6))
    noisy = run(Machine(slow=0.2), 1, BenchSettings(seconds=50, samples=10**6))
    assert {len(process.rounds) for process in quiet.processes} == {10}
    assert min(len(process.rounds) for process in noisy.processes) > 20


def test_warm_up_calls_do_not_count_and_warm_up_has_a_limit():
    cold = run(Machine(shape=lambda since: 3.0 if since < 0.05 else 1.0), 2)
    assert max(samples.max() for process in cold.processes for samples in process.rounds) < 4e5
    assert all(process.steady for process in cold.processes)
    never = run(Machine(shape=lambda since: math.exp(20 * since)), 2)
    steady = [process.steady for process in never.processes]
    assert not any(steady)
    assert "5 of 5 processes" in check_warmup(steady, 0.2)[0].reason


def kinds(machine, seed=0, limits=None):
    return {found.kind for found in check_trace(rounds(run(machine, seed, limits or SHORT)))}


LONG = BenchSettings(processes=3, seconds=6, warmup=0.0, samples=4000, precision=0, slice_seconds=0.02)


def test_quiet_traces_are_valid():
    assert [seed for seed in range(40) if kinds(Machine(), seed)] == []


def test_drift_is_found():
    assert all("drift" in kinds(Machine(shape=lambda since: 1 + 0.2 * since), seed, LONG) for seed in range(20))


@pytest.mark.parametrize("apart", [1.1, 1.5])
def test_two_modes_are_found(apart):
    flip = Machine(noise=0.01, slow=0.002, shape=lambda since: apart if int(since / 0.02) % 2 else 1.0)
    assert all("bimodal" in kinds(flip, seed, LONG) for seed in range(20))


def test_two_modes_are_named():
    rng = np.random.default_rng(0)
    low, high = two_modes((np.concatenate([rng.normal(1e5, 1e3, 600), rng.normal(2e5, 1e3, 400)])).astype(np.int64))
    assert (low, high) == (pytest.approx(1e5, rel=0.01), pytest.approx(2e5, rel=0.01))
    assert two_modes(rng.normal(1e5, 1e4, 1000).astype(np.int64)) is None
    assert two_modes(np.exp(rng.normal(11, 0.5, 1000)).astype(np.int64)) is None
    assert two_modes(np.full(1000, 5)) is None


def test_a_frequency_that_moved_is_found():
    assert check_frequency([[1500_000, 1500_000], [0, 1500_000]]) == []
    assert check_frequency([[0, 0]]) == []
    (found,) = check_frequency([[1500_000, 1500_000], [1000_000, 1500_000]])
    assert found.kind == "frequency"
    assert "1,000 to 1,500 MHz" in found.reason


def test_a_machine_that_others_use_is_found():
    assert check_load([[90, 95]], [[100, 100]], threads=1) == []
    assert "45%" in check_load([[40, 50]], [[100, 100]], threads=1)[0].reason
    assert check_load([[40, 50]], [[100, 100]], threads=2) == []


BOOT = ("under-voltage since boot", "throttled since boot")


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (None, None, []),
        ((), (), []),
        (BOOT, BOOT, []),  # it happened before the run, and not in it
        ((), ("under-voltage now",), ["under-voltage after"]),
        ((*BOOT, "throttled now"), (*BOOT, "throttled now"), ["throttled before and after"]),
        ((), ("frequency capped since boot",), ["frequency capped during"]),
        (("soft temperature limit now",), (), ["soft temperature limit before"]),
    ],
)
def test_throttling(before, after, reasons):
    assert {word for text in THROTTLED.values() for word in [text.removesuffix(" now")] if word != text} == set(HINTS)
    found = [f.reason for f in check_throttled(before, after)]
    assert [r.partition(" the run")[0] for r in found] == reasons


def test_a_lost_process_is_started_again_once_and_its_samples_are_dropped():
    clock = FakeClock()
    subject = FakeSubject(Machine(), clock, failures={(1, 12)})
    (trace,) = measure([subject], SHORT, rng=np.random.default_rng(0), clock=clock)
    assert (len(trace.processes), len(subject.started), trace.error) == (5, 6, None)
    assert trace.resumed == ["fake: the connection was cut"]


def test_a_subject_that_is_lost_twice_is_given_up_and_the_others_go_on():
    clock = FakeClock()
    bad = FakeSubject(Machine(), clock, failures={(1, 12), (2, 1)})
    good = FakeSubject(Machine(), clock, seed=1)
    lost, whole = measure([bad, good], SHORT, rng=np.random.default_rng(0), clock=clock)
    assert lost.error is not None
    assert (len(lost.processes), len(whole.processes)) == (1, 5)
    assert whole.error is None
    assert all(running.closed for running in [*bad.started, *good.started] if running is not bad.started[2])
