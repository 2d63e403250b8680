"""Percentiles with intervals, from samples of several processes taken in rounds.

Processes are the unit of replication: layout, frequency and neighbours differ between processes, and no number of
samples in one of them tells about that (Georges, Buytaert & Eeckhout, "Statistically rigorous Java performance
evaluation", 2007; Kalibera & Jones, "Rigorous benchmarking in reasonable time", 2013). So each process gives an
estimate, what is reported is their geometric mean, and intervals come from resampling processes first, and the rounds
within each then.
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
"""Resampled percentiles are read off with this resolution."""

Process = Sequence[NDArray[np.int64]]
"""The rounds of one process, each an array of latencies in ns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its interval of `CONFIDENCE`; the interval is None where there is too little to tell.

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
        """Half the interval's width as a share of the value; infinite without an interval."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / 2 / self.value

    def divided_into(self, numerator: float) -> Interval:
        """The interval of ``numerator / value``."""
        ends = [None if end is None else numerator / end for end in (self.high, self.low)]
        return Interval(value=numerator / self.value, low=ends[0], high=ends[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a result's samples come to; times in ns.

    Attributes:
        samples: How many there are.
        processes: In how many processes they were taken.
        p50: Median.
        p90: 90th percentile.
        p99: 99th percentile.
        minimum: The fastest.
        mean_absolute_deviation: Mean distance from the median.
        throughput: Samples of the model per second, at the median and one after the other.
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
    """Percentiles and the rest of the samples of one result.

    Args:
        processes: At least one, each with at least one round, none of them empty.
        batch: Samples of the model in each call.
        seed: Of the bootstrap, so that the same samples give the same intervals.
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
    """Logarithms of percentiles: what each process says, and what resampling its rounds makes of that.

    Attributes:
        estimates: (processes, percentiles).
        resampled: (processes, `REPLICATES`, percentiles).
        rounds: The fewest rounds of a process.
    """

    estimates: NDArray[np.float64]
    resampled: NDArray[np.float64]
    rounds: int

    @classmethod
    def of(cls, processes: Sequence[Process], *, seed: int) -> Replicates:
        """Of the processes of one result."""
        rng = np.random.default_rng(seed)
        both = [_log_percentiles(rounds, rng) for rounds in processes]
        fewest = min(len(rounds) for rounds in processes)
        return cls(np.stack([b[0] for b in both]), np.stack([b[1] for b in both]), fewest)

    @property
    def freedom(self) -> float:
        """Degrees of freedom: processes less one; where there is but one process, its rounds less one."""
        return float(len(self.estimates) - 1 if len(self.estimates) > 1 else self.rounds - 1)

    def mean(self, which: int) -> float:
        """The logarithm of percentile number ``which``, over all processes."""
        return float(self.estimates[:, which].mean())

    def error(self, which: int) -> float:
        """Standard error of `mean`.

        Resampling n units has only (n - 1) / n of the variance, which matters for few processes and is put right
        (Hesterberg, "What teachers should know about the bootstrap", 2015, section 3.2). The second level counts the
        noise within processes twice: it errs on the wide side, and by little where rounds are many.
        """
        return _bootstrap_error(self.resampled[:, :, which], self.rounds)

    def interval(self, which: int) -> Interval:
        """Percentile number ``which``, in ns."""
        center = self.mean(which)
        if self.freedom < 1:
            return Interval(value=math.exp(center))
        return _interval(center, self.error(which), self.freedom)


def ratio(new: Sequence[Process], old: Sequence[Process], *, seed: int = 0) -> Interval:
    """How many times as long ``new`` takes as ``old`` by their medians, measured in runs of their own.

    Degrees of freedom after Welch and Satterthwaite.
    """
    first, second = Replicates.of(new, seed=seed), Replicates.of(old, seed=seed + 1)
    center = first.mean(0) - second.mean(0)
    if min(first.freedom, second.freedom) < 1:
        return Interval(value=math.exp(center))
    a, b = first.error(0) ** 2, second.error(0) ** 2
    freedom = (a + b) ** 2 / (a**2 / first.freedom + b**2 / second.freedom) if a + b else first.freedom
    return _interval(center, math.sqrt(a + b), freedom)


def paired_ratio(new: Sequence[Process], old: Sequence[Process], *, seed: int = 0) -> Interval:
    """As `ratio`, for two that took turns: round by round in the same processes' lifetime.

    What both met (a machine that grew warm, a neighbour) cancels: the medians of each round are compared with each
    other, and processes and rounds are resampled in pairs.
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
    """The median of independent values, with the interval between two of them; see `order_ranks`."""
    ordered = np.sort(np.asarray(values, np.float64))
    ranks = order_ranks(len(ordered), 0.5, confidence)
    middle = float(np.median(ordered))
    if ranks is None:
        return Interval(value=middle)
    return Interval(value=middle, low=float(ordered[ranks[0]]), high=float(ordered[ranks[1]]))


def _interval(center: float, error: float, freedom: float) -> Interval:
    # Beyond e**50 there is no number left to read: one more process is what helps.
    reach = min(t_quantile((1 + CONFIDENCE) / 2, round(freedom, 3)) * error, 50.0)
    return Interval(value=math.exp(center), low=math.exp(center - reach), high=math.exp(center + reach))


def _round_log_ratios(new: Process, old: Process) -> NDArray[np.float64]:
    pairs = zip(new, old, strict=False)
    return np.array([math.log(max(np.median(a), 1.0) / max(np.median(b), 1.0)) for a, b in pairs])


def _bootstrap_error(resampled: NDArray[np.float64], rounds: int) -> float:
    """Standard error of the mean over processes, from (processes, replicates) of each process's own resampling."""
    count, replicates = resampled.shape
    if count == 1:
        return float(resampled[0].std(ddof=1)) * math.sqrt(rounds / (rounds - 1))
    rng = np.random.default_rng(count)
    which = rng.integers(count, size=(replicates, count))
    drawn = resampled[which, rng.integers(replicates, size=(replicates, count))]
    return float(drawn.mean(axis=1).std(ddof=1)) * math.sqrt(count / (count - 1))


def _log_percentiles(rounds: Process, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of a process's percentiles, and the same with its rounds resampled, (`REPLICATES`, percentiles)."""
    values = np.concatenate(list(rounds))
    owner = np.repeat(np.arange(len(rounds)), [len(r) for r in rounds])
    order = np.argsort(values, kind="stable")
    logs, owner = np.log(np.maximum(values[order], 1)), owner[order]
    own = np.array([_percentile(logs, q) for q in PERCENTILES])
    # Resampling whole rounds is counting their samples so many times: no sorting anew, and BINS of neighbours are
    # counted together.
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
