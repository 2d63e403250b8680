"""Artifacts take turns, in several processes each, until their medians are known well enough or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.bench.warmup import Limits, is_precise, is_steady
from edgecnn.errors import TargetError
from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.timing import BoundInfo, TimingSlice
from edgecnn.types import Progress

Clock = Callable[[], float]

_WARMUP_WINDOW = 0.01  # seconds
_LEAST_ROUNDS = 2
_RESUMED = 1  # times that a lost process is started again, in the place of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What opening an artifact and its first inference told.

    Attributes:
        version: The runtime's.
        options: All in force.
        load_ns: What opening took.
        bound: The first inference and more; see `BoundInfo`.
        resident_kb: Memory of the process before opening, where it is known.
        arena_bytes: Memory for tensors, where the runtime tells.
        notes: What the user should know.
    """

    version: str = ""
    options: Mapping[str, bool | int | str] = field(default_factory=dict)
    load_ns: int
    bound: BoundInfo
    resident_kb: int | None = None
    arena_bytes: int | None = None
    notes: tuple[str, ...] = ()


class Running(Protocol):
    """An artifact that is open in a process of its own, its inputs in place.

    Attributes:
        start: What opening it and the first inference told.
    """

    start: Start

    def take(self, calls: int, seconds: float) -> TimingSlice:
        """Time at most so many calls, for about so long."""

    def close(self) -> None:
        """End the process."""


class Subject(Protocol):
    """What is measured: an artifact on a target.

    Attributes:
        name: What progress and errors call it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  (in the class's docstring)

    def start(self) -> Running:
        """Open it in a new process.

        Raises:
            TargetError: It cannot be started or opened.
        """


@dataclass(slots=True)
class ProcessTrace:
    """What one process gave: its rounds in the order of time, and what surrounds them.

    Attributes:
        rounds: ns of each call, an array per round.
        medians: Of each round.
        wall_ns: Of each round.
        cpu_ns: Processor time in each round.
        khz: The processors' highest frequency after each round; 0 where it is not known.
        start: What opening it told.
        peak_kb: The most memory it had, where that is known.
        steady: Whether warm-up ended because it was steady, and not for time.
        warmup_calls: Calls that do not count.
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
        """Keep a round."""
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
        processes: Those that were measured to their end.
        resumed: Why a process was lost and started again, one line for each.
        error: Why it was given up.
    """

    processes: list[ProcessTrace] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    error: TargetError | None = None


def measure(
    subjects: Sequence[Subject],
    limits: Limits,
    *,
    rng: np.random.Generator,
    clock: Clock = time.monotonic,
    progress: Progress | None = None,
) -> list[Trace]:
    """Measure all subjects side by side.

    In each of ``limits.processes`` turns every subject gets a new process; these stay open together, are warmed up, and
    are then measured in rounds, a slice each, in a new random order per round. So what disturbs the machine for longer
    than a slice disturbs all alike. A round is made for all or, once all are precise or time is up, for none.

    A process whose line is cut is started again once, and its samples are thrown away; the next time, or where the
    runtime failed, its subject is given up, and the others go on.

    Args:
        subjects: What is measured; their number is the number of processes that are open at once.
        limits: How long.
        rng: For the order within a round.
        clock: Seconds, as `time.monotonic`.
        progress: Told about each round.
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


def _take_turns(places: Sequence[_Place], limits: Limits, rng: np.random.Generator, report: _Report) -> None:
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
    """A subject's place in one turn of processes; what happens to its process happens here."""

    def __init__(self, subject: Subject, trace: Trace, limits: Limits, clock: Clock, stack: ExitStack) -> None:
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
        """Start and warm up, with one more try."""
        self._guarded(lambda: None)

    def take(self) -> None:
        """Make a round; after a loss, in a new process that has no rounds yet."""
        if self.trace.error is None:
            self._guarded(self._take)

    def keep(self) -> None:
        """Let the trace have what was measured, unless the subject was given up meanwhile."""
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
    except TargetError:  # it was lost before, and that has been said
        return


@dataclass(frozen=True, slots=True)
class _Report:
    """Progress through the whole of a measurement."""

    progress: Progress | None
    begun: float
    clock: Clock
    limits: Limits
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
