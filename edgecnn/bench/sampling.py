"""Artifacts take turns, in several processes each, until their medians are precise enough or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.bench.warmup import BenchSettings, is_precise, is_steady
from edgecnn.errors import TargetError
from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.timing import BoundInfo, TimingSlice
from edgecnn.types import Progress

Clock = Callable[[], float]

_WARMUP_WINDOW = 0.01  # seconds
_LEAST_ROUNDS = 2
_RESUMED = 1  # restarts of a lost process, for each subject and turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Facts from opening an artifact and from its first inference.

    Attributes:
        version: Version of the runtime.
        options: All runtime options in force.
        load_ns: Time of opening.
        bound: Facts from binding inputs and the first inference; see `BoundInfo`.
        resident_kb: Memory of the process before opening, if known.
        arena_bytes: Memory for tensors, if the runtime reports it.
        notes: Notes for the user.
    """

    version: str = ""
    options: Mapping[str, bool | int | str] = field(default_factory=dict)
    load_ns: int
    bound: BoundInfo
    resident_kb: int | None = None
    arena_bytes: int | None = None
    notes: tuple[str, ...] = ()


class Running(Protocol):
    """An artifact that is open in its own process, with bound inputs.

    Attributes:
        start: Facts from opening it and from the first inference.
    """

    start: Start

    def take(self, calls: int, seconds: float) -> TimingSlice:
        """Time calls, up to a number of calls and for approximately a number of seconds."""

    def close(self) -> None:
        """End the process."""


class Subject(Protocol):
    """Something to measure: an artifact on a target.

    Attributes:
        name: The subject's name in progress messages and errors.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  (in the class's docstring)

    def start(self) -> Running:
        """Open the subject in a new process.

        Raises:
            TargetError: The process cannot be started, or the artifact cannot be opened.
        """


@dataclass(slots=True)
class ProcessTrace:
    """The rounds of one process, in chronological order, with its other measurements.

    Attributes:
        rounds: Latencies in ns, an array per round.
        medians: Median latency of each round.
        wall_ns: Elapsed time of each round.
        cpu_ns: Processor time of each round.
        khz: Highest frequency of the processors after each round; 0 if unknown.
        start: Facts from opening the artifact.
        peak_kb: Peak memory of the process, if known.
        steady: Whether warm-up ended in the steady state rather than by its time limit.
        warmup_calls: Number of calls during warm-up, which are not samples.
    """

    start: Start
    peak_kb: int | None = None
    steady: bool = False
    warmup_calls: int = 0
    rounds: list[NDArray[np.int64]] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    wall_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    khz: list[int] = field(default_factory=list)

    def add(self, taken: TimingSlice) -> None:
        """Add a round."""
        self.rounds.append(taken.samples)
        self.medians.append(float(np.median(taken.samples)))
        self.wall_ns.append(taken.wall_ns)
        self.cpu_ns.append(taken.cpu_ns)
        self.khz.append(taken.khz)
        self.peak_kb = taken.peak_kb


@dataclass(slots=True)
class Trace:
    """All processes of one subject.

    Attributes:
        processes: Processes that were measured completely.
        resumed: For each process that was lost and restarted, the reason.
        error: Why the subject was given up; None if it was not.
    """

    processes: list[ProcessTrace] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    error: TargetError | None = None


def measure(
    subjects: Sequence[Subject],
    limits: BenchSettings,
    *,
    rng: np.random.Generator,
    clock: Clock = time.monotonic,
    progress: Progress | None = None,
) -> list[Trace]:
    """Measure all subjects side by side.

    In each of ``limits.processes`` turns every subject gets a new process. These processes are open at the same time;
    they are warmed up, and then measured in rounds of one slice each, in a new random order per round. A disturbance
    that lasts longer than a slice therefore affects all subjects equally. A round covers all subjects; no round starts
    once all are precise or time is up.

    If the connection to a process is lost, the process is restarted once and its samples are discarded. If it is lost
    again, or if the runtime failed, its subject is given up, and the others continue.

    Args:
        subjects: The subjects; one process for each is open at the same time.
        limits: How long to measure.
        rng: Generator of the order within a round.
        clock: Returns seconds, as `time.monotonic` does.
        progress: Called after each round.
    """
    traces = [Trace() for _ in subjects]
    begun = clock()
    for number in range(limits.processes):
        with ExitStack() as stack:
            places = [
                _Place(subject, trace, limits, clock, stack)
                for subject, trace in zip(subjects, traces, strict=True)
                if trace.error is None
            ]
            for place in places:
                place.open()
            _take_turns(places, limits, rng, _Report(progress, begun, clock, limits, len(subjects), number))
        for place in places:
            place.keep()
    return traces


def _take_turns(places: Sequence[_Place], limits: BenchSettings, rng: np.random.Generator, report: _Report) -> None:
    end = report.clock() + limits.process_seconds * len(places)
    made = 0
    while any(place.trace.error is None for place in places):
        for i in rng.permutation(len(places)):
            places[i].take()
        made += 1
        report.tell(places, made)
        open_ones = [place for place in places if place.trace.error is None]
        if made >= _LEAST_ROUNDS and (report.clock() >= end or all(place.enough for place in open_ones)):
            return


class _Place:
    """The process of one subject in one turn, with restarts after lost connections."""

    def __init__(self, subject: Subject, trace: Trace, limits: BenchSettings, clock: Clock, stack: ExitStack) -> None:
        self.subject, self.trace = subject, trace
        self._limits, self._clock, self._stack = limits, clock, stack
        self._running: Running | None = None
        self.process: ProcessTrace | None = None

    @property
    def enough(self) -> bool:
        assert self.process is not None
        samples = sum(len(r) for r in self.process.rounds)
        return samples >= self._limits.samples or is_precise(self.process.medians, self._limits)

    def open(self) -> None:
        """Start and warm up the process; retry once."""
        self._guarded(lambda: None)

    def take(self) -> None:
        """Measure a round; after a lost connection, in a new process without rounds."""
        if self.trace.error is None:
            self._guarded(self._take)

    def keep(self) -> None:
        """Add the process to the trace, unless the subject was given up."""
        if self.trace.error is None and self.process is not None and self.process.rounds:
            self.trace.processes.append(self.process)

    def _take(self) -> None:
        assert self._running is not None
        assert self.process is not None
        self.process.add(self._running.take(self._limits.calls, self._limits.slice_seconds))

    def _guarded(self, work: Callable[[], None]) -> None:
        for attempt in range(_RESUMED + 1):
            try:
                if self._running is None:
                    self._start()
                work()
            except TargetError as error:
                self._running = None
                if attempt == _RESUMED or not isinstance(error, LostError):
                    self.trace.error = error
                    return
                self.trace.resumed.append(error.message)
            else:
                return

    def _start(self) -> None:
        running = self.subject.start()
        self._stack.callback(_close, running)
        self.process = ProcessTrace(running.start)
        self._warm_up(running, self.process)
        self._running = running

    def _warm_up(self, running: Running, process: ProcessTrace) -> None:
        windows: list[float] = []
        end = self._clock() + self._limits.warmup
        while not process.steady and self._clock() < end:
            taken = running.take(self._limits.calls, _WARMUP_WINDOW)
            windows.append(float(np.median(taken.samples)))
            process.warmup_calls += len(taken.samples)
            process.steady = is_steady(windows)


def _close(running: Running) -> None:
    try:
        running.close()
    except TargetError:  # the connection was lost before, which has been reported
        return


@dataclass(frozen=True, slots=True)
class _Report:
    """Reports the progress of the whole measurement."""

    progress: Progress | None
    begun: float
    clock: Clock
    limits: BenchSettings
    subjects: int
    number: int

    def tell(self, places: Iterable[_Place], made: int) -> None:
        if self.progress is None:
            return
        levels = [np.median(p.process.medians) / 1000 for p in places if p.process is not None and p.process.rounds]
        total = self.subjects * self.limits.processes * (self.limits.process_seconds + self.limits.warmup)
        shown = ", ".join(f"{level:,.1f}" for level in levels[:4]) + (" ..." if len(levels) > 4 else "")
        text = f"process {self.number + 1} of {self.limits.processes}, round {made}: {shown} us"
        self.progress(text, min(int(self.clock() - self.begun), int(total)), max(1, int(total)))
