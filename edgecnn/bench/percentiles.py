"""Percentiles with intervals, from samples of several processes taken in rounds.

Processes are the unit of replication: memory layout, clock frequency and other load differ between processes, and no
number of samples within one process measures that variation (Georges, Buytaert & Eeckhout, "Statistically rigorous Java
performance evaluation", 2007; Kalibera & Jones, "Rigorous benchmarking in reasonable time", 2013). Each process
therefore gives an estimate, the result is their geometric mean, and intervals come from resampling first the processes
and then the rounds within each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.bench.quantiles import order_ranks, t_quantile

PERCENTILES = (50, 90, 99)
CONFIDENCE = 0.95
REPLICATES = 400
"""Bootstrap replicates: a standard error from so many is itself within 4 % (Efron & Tibshirani, 1993, section 6.4)."""
BINS = 500
"""Resolution of resampled percentiles, in bins of consecutive samples."""

Process = Sequence[NDArray[np.int64]]
"""The rounds of one process, each an array of latencies in ns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its interval with confidence `CONFIDENCE`; the interval is None with too few samples.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float:
        """Half of the interval's width as a share of the value; infinite without an interval."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / 2 / self.value

    def divided_into(self, numerator: float) -> Interval:
        """The interval of ``numerator / value``."""
        ends = [None if end is None else numerator / end for end in (self.high, self.low)]
        return Interval(value=numerator / self.value, low=ends[0], high=ends[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Statistics of a result's samples; times in ns.

    Attributes:
        samples: Number of samples.
        processes: Number of processes.
        p50: Median.
        p90: 90th percentile.
        p99: 99th percentile.
        minimum: Fastest sample.
        mean_absolute_deviation: Mean distance from the median.
        throughput: Samples of the model per second at the median latency, without overlapping calls.
    """

    samples: int
    processes: int
    p50: Interval
    p90: Interval
    p99: Interval
    minimum: int
    mean_absolute_deviation: float
    throughput: Interval


def summarize(processes: Sequence[Process], *, batch: int = 1, seed: int = 0) -> Summary:
    """Compute the statistics of the samples of one result.

    Args:
        processes: At least one, each with at least one round, none of them empty.
        batch: Samples of the model in each call.
        seed: Seed of the bootstrap, so that the same samples give the same intervals.
    """
    spread = Replicates.of(processes, seed=seed)
    p50, p90, p99 = (spread.interval(i) for i in range(len(PERCENTILES)))
    pooled = np.concatenate([round_ for rounds in processes for round_ in rounds])
    return Summary(
        samples=len(pooled),
        processes=len(processes),
        p50=p50,
        p90=p90,
        p99=p99,
        minimum=int(pooled.min()),
        mean_absolute_deviation=float(np.abs(pooled - np.median(pooled)).mean()),
        throughput=p50.divided_into(batch * 1e9),
    )


@dataclass(frozen=True, slots=True)
class Replicates:
    """Logarithms of percentiles of each process, with bootstrap replicates from resampling its rounds.

    Attributes:
        estimates: Estimates, (processes, percentiles).
        resampled: Replicates, (processes, `REPLICATES`, percentiles).
        rounds: Smallest number of rounds of a process.
    """

    estimates: NDArray[np.float64]
    resampled: NDArray[np.float64]
    rounds: int

    @classmethod
    def of(cls, processes: Sequence[Process], *, seed: int) -> Replicates:
        """Compute the replicates for the processes of one result."""
        rng = np.random.default_rng(seed)
        both = [_log_percentiles(rounds, rng) for rounds in processes]
        fewest = min(len(rounds) for rounds in processes)
        return cls(np.stack([b[0] for b in both]), np.stack([b[1] for b in both]), fewest)

    @property
    def freedom(self) -> float:
        """Degrees of freedom: the number of processes minus one, or for a single process its rounds minus one."""
        return float(len(self.estimates) - 1 if len(self.estimates) > 1 else self.rounds - 1)

    def mean(self, which: int) -> float:
        """Mean over all processes of the logarithm of percentile number ``which``."""
        return float(self.estimates[:, which].mean())

    def error(self, which: int) -> float:
        """Standard error of `mean`.

        Resampling n units underestimates the variance by the factor (n - 1) / n, which matters for few processes and is
        corrected (Hesterberg, "What teachers should know about the bootstrap", 2015, section 3.2). The second level
        counts the noise within processes twice: the error is too large, but only slightly if there are many rounds.
        """
        return _bootstrap_error(self.resampled[:, :, which], self.rounds)

    def interval(self, which: int) -> Interval:
        """Percentile number ``which`` with its interval, in ns."""
        center = self.mean(which)
        if self.freedom < 1:
            return Interval(value=math.exp(center))
        return _interval(center, self.error(which), self.freedom)


def ratio(new: Sequence[Process], old: Sequence[Process], *, seed: int = 0) -> Interval:
    """Ratio of the medians of ``new`` and ``old``, measured in separate runs.

    The degrees of freedom are those of Welch and Satterthwaite.
    """
    first, second = Replicates.of(new, seed=seed), Replicates.of(old, seed=seed + 1)
    center = first.mean(0) - second.mean(0)
    if min(first.freedom, second.freedom) < 1:
        return Interval(value=math.exp(center))
    a, b = first.error(0) ** 2, second.error(0) ** 2
    freedom = (a + b) ** 2 / (a**2 / first.freedom + b**2 / second.freedom) if a + b else first.freedom
    return _interval(center, math.sqrt(a + b), freedom)


def paired_ratio(new: Sequence[Process], old: Sequence[Process], *, seed: int = 0) -> Interval:
    """Ratio of the medians of ``new`` and ``old``, which took turns, round by round.

    Disturbances of both (a warmer machine, other load) cancel: medians are compared within each round, and processes
    and rounds are resampled in pairs.
    """
    rng = np.random.default_rng(seed)
    pairs = [_round_log_ratios(a, b) for a, b in zip(new, old, strict=False)]
    rounds = min(len(pair) for pair in pairs)
    center = float(np.mean([np.median(pair) for pair in pairs]))
    freedom = float(len(pairs) - 1 if len(pairs) > 1 else rounds - 1)
    if freedom < 1:
        return Interval(value=math.exp(center))
    resampled = np.stack([np.median(rng.choice(pair, (REPLICATES, len(pair))), axis=1) for pair in pairs])
    return _interval(center, _bootstrap_error(resampled, rounds), freedom)


def median_interval(values: NDArray[Any], confidence: float = CONFIDENCE) -> Interval:
    """The median of independent values, with an interval between two order statistics; see `order_ranks`."""
    ordered = np.sort(np.asarray(values, np.float64))
    ranks = order_ranks(len(ordered), 0.5, confidence)
    middle = float(np.median(ordered))
    if ranks is None:
        return Interval(value=middle)
    return Interval(value=middle, low=float(ordered[ranks[0]]), high=float(ordered[ranks[1]]))


def _interval(center: float, error: float, freedom: float) -> Interval:
    # A factor of e**50 is unbounded for all purposes; only another process would narrow it.
    reach = min(t_quantile((1 + CONFIDENCE) / 2, round(freedom, 3)) * error, 50.0)
    return Interval(value=math.exp(center), low=math.exp(center - reach), high=math.exp(center + reach))


def _round_log_ratios(new: Process, old: Process) -> NDArray[np.float64]:
    pairs = zip(new, old, strict=False)
    return np.array([math.log(max(np.median(a), 1.0) / max(np.median(b), 1.0)) for a, b in pairs])


def _bootstrap_error(resampled: NDArray[np.float64], rounds: int) -> float:
    """Standard error of the mean over processes, from each process's replicates, (processes, replicates)."""
    count, replicates = resampled.shape
    if count == 1:
        return float(resampled[0].std(ddof=1)) * math.sqrt(rounds / (rounds - 1))
    rng = np.random.default_rng(count)
    which = rng.integers(count, size=(replicates, count))
    drawn = resampled[which, rng.integers(replicates, size=(replicates, count))]
    return float(drawn.mean(axis=1).std(ddof=1)) * math.sqrt(count / (count - 1))


def _log_percentiles(rounds: Process, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of a process's percentiles, and replicates from resampled rounds, (`REPLICATES`, percentiles)."""
    values = np.concatenate(list(rounds))
    owner = np.repeat(np.arange(len(rounds)), [len(r) for r in rounds])
    order = np.argsort(values, kind="stable")
    logs, owner = np.log(np.maximum(values[order], 1)), owner[order]
    own = np.array([_percentile(logs, q) for q in PERCENTILES])
    # Resampling whole rounds only changes how often their samples count, so the samples are sorted once, and BINS of
    # consecutive samples are counted together.
    bins = np.arange(len(logs)) * min(BINS, len(logs)) // len(logs)
    counts = np.zeros((len(rounds), bins[-1] + 1))
    np.add.at(counts, (owner, bins), 1)
    draws = rng.multinomial(len(rounds), np.full(len(rounds), 1 / len(rounds)), size=REPLICATES)
    cumulated = np.cumsum(draws @ counts, axis=1)
    wanted = [cumulated[:, -1:] * percent / 100 for percent in PERCENTILES]
    reached = np.stack([(cumulated >= w).argmax(axis=1) for w in wanted], axis=1)
    last = np.searchsorted(bins, reached, side="right") - 1
    return own, logs[last]


def _percentile(ordered: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(ordered, percent))
