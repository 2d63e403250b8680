"""A runtime whose latencies are known, on a clock that only it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgecnn.bench.sampling import Start
from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.timing import BoundInfo, TimingSlice


class FakeClock:
    """Seconds that pass only when somebody says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@dataclass
class Machine:
    """What drawn latencies are made of; shares are standard deviations of the logarithm.

    Attributes:
        base: The median in ns of a quiet machine.
        between: Between processes.
        slow: Of a neighbour that comes and goes for longer than a slice.
        noise: Of each call.
        shape: Multiplies the latency by what it says for the seconds since the process's start.
        spikes: Share of calls that an interrupt makes three times as long.
    """

    base: float = 100_000.0
    between: float = 0.01
    slow: float = 0.01
    noise: float = 0.03
    spikes: float = 0.004
    shape: Callable[[float], float] = lambda _: 1.0
    khz: Callable[[float], int] = lambda _: 0
    cpu_share: float = 1.0


@dataclass
class FakeRunning:
    machine: Machine
    clock: FakeClock
    rng: np.random.Generator
    start: Start = Start(load_ns=5_000_000, bound=BoundInfo(first_ns=900_000, overhead_ns=100), resident_kb=1000)  # noqa: RUF009
    level: float = field(init=False)
    begun: float = field(init=False)
    closed: bool = False

    def __post_init__(self):
        self.level = self.machine.base * np.exp(self.rng.normal(0, self.machine.between))
        self.begun = self.clock.now

    def take(self, calls, seconds):
        m, rng = self.machine, self.rng
        since = self.clock.now - self.begun
        level = self.level * np.exp(rng.normal(0, m.slow)) * m.shape(since)
        calls = max(1, min(calls, int(seconds * 1e9 / level)))
        samples = level * np.exp(rng.normal(0, m.noise, calls)) * np.where(rng.random(calls) < m.spikes, 3, 1)
        wall = int(samples.sum())
        self.clock.now += wall / 1e9
        cpu, khz = int(wall * m.cpu_share), m.khz(since)
        return TimingSlice(samples=samples.astype(np.int64), wall_ns=wall, cpu_ns=cpu, khz=khz, peak_kb=1500)

    def close(self):
        self.closed = True


@dataclass
class FakeSubject:
    """Starts processes; fails where `failures` says so, by the number of the start and of the slice in it."""

    machine: Machine
    clock: FakeClock
    seed: int = 0
    name: str = "fake"
    failures: set[tuple[int, int]] = field(default_factory=set)
    started: list[FakeRunning] = field(default_factory=list)

    def start(self):
        rng = np.random.default_rng((self.seed, len(self.started)))
        running = FakeRunning(self.machine, self.clock, rng)
        number, slices, take = len(self.started), [0], running.take
        self.started.append(running)

        def failing(calls, seconds):
            slices[0] += 1
            if (number, slices[0]) in self.failures:
                raise LostError("fake: the connection was cut")
            return take(calls, seconds)

        running.take = failing
        return running
