"""Time calls one by one, with only one reading of the clock on either side."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OVERHEAD_CALLS = 1000


class Timed(NamedTuple):
    """Times of calls in ns: of each call, of the whole loop, and the processor time of the loop."""

    samples: NDArray[np.int64]
    wall_ns: int
    cpu_ns: int


def time_once(run: Callable[[], Any]) -> int:
    """Return the time of one call in ns."""
    start = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - start


def time_calls(run: Callable[[], Any], calls: int, seconds: float) -> Timed:
    """Time calls one by one, without garbage collection.

    Each sample includes one reading of the clock and one Python call besides the call's own time: see `overhead_ns`.

    Args:
        run: What is called.
        calls: How many calls.
        seconds: Stop after this time, but not before the first call has ended.
    """
    clock = time.perf_counter_ns
    samples: list[int] = []
    add = samples.append
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun_cpu, begun = time.thread_time_ns(), clock()
        end = begun + int(seconds * 1e9)
        for _ in range(calls):
            start = clock()
            run()
            stop = clock()
            add(stop - start)
            if stop > end:
                break
        wall, cpu = clock() - begun, time.thread_time_ns() - begun_cpu
    finally:
        if collecting:
            gc.enable()
    return Timed(np.array(samples, np.int64), wall, cpu)


def overhead_ns() -> int:
    """Return the median of what `time_calls` measures for a call that does nothing."""
    return int(np.median(time_calls(_nothing, _OVERHEAD_CALLS, 1.0).samples))


def _nothing() -> None:
    """Stand in for a runtime."""
