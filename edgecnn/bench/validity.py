"""Checks whether a result is valid; each says why it is not, and what to try."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.bench.percentiles import Process

DRIFT = 0.03
"""ResultSmallest change from the first third of a run to the last, as a share, that counts as drift if significant."""
SIGNIFICANCE = 3.0
"""Threshold of the trend test, in standard deviations."""
MODES = 0.05
"""Smallest distance of two modes, as a share, that counts as bimodal if the valley between them is deep."""
VALLEY = 0.5
"""Largest density of the valley relative to the lower mode."""
MODE_SHARE = 0.1
"""Smallest share of the samples in a mode."""
FREQUENCY = 0.03
"""ResultLargest valid change of the processor's frequency under load, as a share."""
CPU_SHARE = 0.9
"""Smallest share of the time for which a single-threaded process must have had a processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """Why a result is invalid, and what to try.

    Attributes:
        kind: ``drift``, ``bimodal``, ``throttled``, ``frequency``, ``load``, ``warm-up``.
        reason: The observation, in words.
        hint: What to try.
    """

    kind: str
    reason: str
    hint: str


def check_trace(processes: Sequence[Process]) -> list[Invalid]:
    """Check the samples for drift and bimodality."""
    return [found for check in (_drift, _bimodal) if (found := check(processes)) is not None]


def check_frequency(khz: Sequence[Sequence[int]]) -> list[Invalid]:
    """Check whether the frequency changed. ``khz`` has each process's frequency after each round; 0 is unknown."""
    known = [f for rounds in khz for f in rounds if f > 0]
    if not known or max(known) <= (1 + FREQUENCY) * min(known):
        return []
    reason = f"the processor ran at {min(known) / 1000:,.0f} to {max(known) / 1000:,.0f} MHz while it was measured"
    hint = "fix it: sudo cpupower frequency-set -g performance; on a Raspberry Pi, better cooling or arm_boost=0"
    return [Invalid(kind="frequency", reason=reason, hint=hint)]


def check_load(cpu_ns: Sequence[Sequence[int]], wall_ns: Sequence[Sequence[int]], threads: int) -> list[Invalid]:
    """Check whether other processes used the processor; only for one thread, since several wait for each other."""
    wall = sum(sum(rounds) for rounds in wall_ns)
    if threads != 1 or wall == 0:
        return []
    share = sum(sum(rounds) for rounds in cpu_ns) / wall
    if share >= CPU_SHARE:
        return []
    reason = f"the process had a processor for only {share:.0%} of the time"
    return [Invalid(kind="load", reason=reason, hint="stop other processes (top shows them), or measure again")]


_POWER = "a stronger power supply or a shorter cable"
_HEAT = "better cooling, and pauses between runs"
_THROTTLING = {
    "under-voltage": _POWER,
    "frequency capped": f"{_POWER}, or {_HEAT}",
    "throttled": _HEAT,
    "soft temperature limit": _HEAT,
}


def check_throttled(before: Sequence[str] | None, after: Sequence[str] | None) -> list[Invalid]:
    """Check the throttling bits of a Raspberry Pi's firmware, worded as `edgecnn.targets.hosts.machine_info.THROTTLED`.

    A condition since boot counts only if it was not yet set before the run.
    """
    first, last = set(before or ()), set(after or ())
    found = []
    for name, hint in _THROTTLING.items():
        now, past = f"{name} now", f"{name} since boot"
        if now in first & last:
            when = "before and after"
        elif now in first | last:
            when = "before" if now in first else "after"
        elif before is not None and past in last - first:
            when = "during"
        else:
            continue
        reason = f"{name} {when} the run (vcgencmd get_throttled)"
        found.append(Invalid(kind="throttled", reason=reason, hint=hint))
    return found


def check_warmup(steady: Sequence[bool], seconds: float) -> list[Invalid]:
    """Check that each process became steady before its warm-up ended."""
    if all(steady):
        return []
    reason = f"{steady.count(False)} of {len(steady)} processes were not steady after {seconds:g} s of warm-up"
    return [Invalid(kind="warm-up", reason=reason, hint="a longer --warmup, or a quieter machine")]


def _drift(processes: Sequence[Process]) -> Invalid | None:
    """Drift: Mann & Kendall's trend test, summed over the processes' rounds, and a change of at least `DRIFT`."""
    traces = [np.array([np.median(r) for r in rounds]) for rounds in processes]
    traces = [t / np.median(t) for t in traces if len(t) >= 6]
    if not traces:
        return None
    score = sum(_concordance(t) for t in traces)
    variance = sum(len(t) * (len(t) - 1) * (2 * len(t) + 5) / 18 for t in traces)
    change = float(np.mean([np.median(t[-(len(t) // 3) :]) / np.median(t[: len(t) // 3]) for t in traces])) - 1
    if abs(score) < SIGNIFICANCE * math.sqrt(variance) or abs(change) < DRIFT:
        return None
    word = "slower" if change > 0 else "faster"
    reason = f"drift: the last third of the run is {abs(change):.1%} {word} than the first"
    hint = "let the machine cool down, fix the frequency, or use a longer --warmup"
    return Invalid(kind="drift", reason=reason, hint=hint)


def _concordance(trace: NDArray[np.float64]) -> float:
    return float(np.sign(trace[None, :] - trace[:, None])[np.triu_indices(len(trace), 1)].sum())


def _bimodal(processes: Sequence[Process]) -> Invalid | None:
    """Bimodality: two modes in the distribution of all samples."""
    pooled = np.concatenate([r for rounds in processes for r in rounds])
    modes = two_modes(pooled)
    if modes is None:
        return None
    reason = f"bimodal: {_us(modes[0])} and {_us(modes[1])} us, {modes[1] / modes[0] - 1:.0%} apart"
    hint = "fix the frequency, stop other processes, pin the process to cores of one kind (taskset)"
    return Invalid(kind="bimodal", reason=reason, hint=hint)


def two_modes(samples: NDArray[np.int64]) -> tuple[float, float] | None:
    """The two highest modes of a bimodal distribution, in ns; None if it is not bimodal.

    A Gaussian kernel estimate of the logarithms' density, with Silverman's rule of thumb for the bandwidth (Density
    Estimation, 1986, equation 3.31, from the quartiles' range): two peaks at least `MODES` apart, each side of the
    lowest point between them holding `MODE_SHARE`, and that point at most `VALLEY` of the lower peak.
    """
    logs = np.log(np.maximum(np.sort(samples), 1).astype(np.float64))
    logs = logs[: max(int(len(logs) * 0.98), 1)]  # the slowest tail consists of outliers
    if len(logs) < 50 or logs[-1] - logs[0] < MODES:
        return None
    grid, density = _density(logs)
    peaks = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1
    best: tuple[float, float, float] | None = None
    for i, left in enumerate(peaks):
        for right in peaks[i + 1 :]:
            low = left + int(density[left : right + 1].argmin())
            share = float((logs <= grid[low]).mean())
            height = min(density[left], density[right])
            deep = density[low] <= VALLEY * height and MODE_SHARE <= share <= 1 - MODE_SHARE
            if deep and grid[right] - grid[left] >= MODES and (best is None or height > best[2]):
                best = (math.exp(grid[left]), math.exp(grid[right]), float(height))
    return None if best is None else (best[0], best[1])


def _density(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    quartiles = np.percentile(logs, (25, 75))
    deviation = min(float(logs.std()), float(quartiles[1] - quartiles[0]) / 1.34) or float(logs.std())
    bandwidth = max(0.9 * deviation * len(logs) ** -0.2, MODES / 10)
    edges = np.linspace(logs[0] - 3 * bandwidth, logs[-1] + 3 * bandwidth, 513)
    counts, _ = np.histogram(logs, edges)
    step = edges[1] - edges[0]
    reach = max(1, math.ceil(4 * bandwidth / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / bandwidth) ** 2)
    return (edges[1:] + edges[:-1]) / 2, np.convolve(counts, kernel, "same")


def _us(ns: float) -> str:
    return f"{ns / 1000:,.1f}"
