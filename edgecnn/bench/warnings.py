"""Warnings about suspicious results and hosts in a record, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

from edgecnn.bench.percentiles import Interval, paired_ratio, ratio
from edgecnn.bench.records import HostFacts, Profile, Record, Result
from edgecnn.targets.runtimes import RUNTIMES

LOAD = 0.5
"""Load per core before the measurement above which to warn."""
MEMORY = 0.1
"""Share of available memory below which to warn."""
OVERHEAD_NS = 1000
OVERHEAD = 0.02
"""Overhead of timing per call above which to warn: the larger of `OVERHEAD_NS` and this share of the latency."""


class BenchWarning(msgspec.Struct, frozen=True, kw_only=True):
    """A warning about a result or a host, with a remedy."""

    subject: str
    text: str
    hint: str


def warnings_of(record: Record) -> Iterator[BenchWarning]:
    """All warnings about a record."""
    for name, host in record.hosts.items():
        yield from _host(name, host)
    for result in record.results:
        yield from _result(result)
    for int8, fp32 in slower_int8(record.results):
        yield _slower(int8, fp32)
    yield from _threads(record.results)


def slower_int8(results: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Pairs of int8 and fp32 results where int8 is significantly slower."""
    pairs = []
    for int8 in results:
        for fp32 in results:
            comparable = (int8.precision, fp32.precision) == ("int8", "fp32") and _place(int8) == _place(fp32)
            if comparable and int8.samples_ns and fp32.samples_ns and _above(int8, fp32, 1.0):
                pairs.append((int8, fp32))
    return pairs


def compared(new: Result, old: Result) -> Interval:
    """Ratio of the latencies of two results of the same run, paired by round if they took turns."""
    compare = paired_ratio if new.group == old.group else ratio
    return compare(new.rounds, old.rounds)


def _above(new: Result, old: Result, limit: float) -> bool:
    low = compared(new, old).low
    return low is not None and low > limit


def _place(result: Result) -> tuple[str, str, int, int]:
    return (result.format, result.target, result.threads, result.batch)


def _host(name: str, host: HostFacts) -> Iterator[BenchWarning]:
    before = host.before
    if host.kind == "emulated":
        return
    if before.governor not in (None, "performance"):
        text = f"the frequency governor is {before.governor}, so the frequency follows the load"
        yield BenchWarning(subject=name, text=text, hint="sudo cpupower frequency-set -g performance")
    cores = host.cores or 1
    if before.load and before.load[0] > LOAD * cores:
        text = f"{before.load[0]:.1f} processes were running or waiting on {cores} cores before the measurement"
        yield BenchWarning(subject=name, text=text, hint="stop other processes; top shows them")
    if before.memory_available is not None and host.memory and before.memory_available < MEMORY * host.memory:
        swap = ", and the system may swap" if before.swap else ""
        text = f"{before.memory_available >> 20} of {host.memory >> 20} MiB of memory were available{swap}"
        yield BenchWarning(subject=name, text=text, hint="stop other processes, or sudo swapoff -a")


def _result(result: Result) -> Iterator[BenchWarning]:
    facts = result.processes
    if any(p.debug for p in facts):
        text = "the runtime or Python is a debug build"
        yield BenchWarning(subject=result.label, text=text, hint="the release build: pip install --force-reinstall")
    if result.options.get("xnnpack") is True and any(p.delegates == 0 for p in facts):
        text = "XNNPACK did not start: the interpreter's built-in kernels run"
        hint = "another version of the runtime, or xnnpack=off to choose these kernels"
        yield BenchWarning(subject=result.label, text=text, hint=hint)
    if result.statistics is not None:
        overhead = sorted(p.overhead_ns for p in facts)[len(facts) // 2]
        if overhead > max(OVERHEAD_NS, OVERHEAD * result.statistics.p50.value):
            text = f"timing itself costs {overhead:,} ns per call"
            yield BenchWarning(subject=result.label, text=text, hint="a larger --batch, for more work in each call")
    if result.precision == "int8" and result.profile is not None:
        yield from _floats(result, result.profile)


def _floats(result: Result, profile: Profile) -> Iterator[BenchWarning]:
    found = [o for o in profile.operators if o.floats]
    if found:
        share = sum(o.share for o in found)
        names = ", ".join(f"{o.module} ({o.operator})" for o in found[:5])
        text = f"computes in float in an int8 file: {names}; {share:.0%} of the time"
        hint = "graph_optimization=all if it was changed; else a recipe that quantizes these layers"
        yield BenchWarning(subject=result.label, text=text, hint=hint)


def _slower(int8: Result, fp32: Result) -> BenchWarning:
    found = compared(int8, fp32)
    text = f"int8 takes {found.value:.2f} times as long as fp32"
    worst = _worst(int8.profile, fp32.profile)
    if worst is not None:
        text += f", most of it in {worst[0]} ({worst[1] / 1000:+,.1f} us)"
    others = [r for r in RUNTIMES.values() if r.installation == "dependency" and int8.format not in r.formats]
    other = f"{others[0].name} (the .{others[0].formats[0]} of the same bundle)"
    hint = f"{other}; or a recipe that leaves that layer in float; or fp32 on this target"
    return BenchWarning(subject=int8.label, text=text, hint=hint)


def _worst(int8: Profile | None, fp32: Profile | None) -> tuple[str, float] | None:
    """The module whose time increased the most, and the increase in ns."""
    if int8 is None or fp32 is None:
        return None
    before = _by_module(fp32)
    grown = {module: ns - before.get(module, 0.0) for module, ns in _by_module(int8).items()}
    return max(grown.items(), key=lambda item: item[1]) if grown else None


def _by_module(profile: Profile) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in profile.operators:
        found[row.module] = found.get(row.module, 0.0) + row.ns
    return found


def _threads(results: Iterable[Result]) -> Iterator[BenchWarning]:
    """Warnings about larger numbers of threads that are slower."""
    rows: dict[tuple[str, str, int], list[Result]] = {}
    for result in results:
        if result.samples_ns:
            rows.setdefault((result.artifact, result.target, result.batch), []).append(result)
    for sweep in rows.values():
        ordered = sorted(sweep, key=lambda r: r.threads)
        for few, many in pairwise(ordered):
            if few.threads < many.threads and _above(many, few, 1.0):
                text = f"{few.threads} threads are faster than {many.threads}: by {compared(many, few).value:.2f} times"
                hint = f"threads={few.threads}; the layers are too small to be divided among threads"
                yield BenchWarning(subject=many.label, text=text.replace("1 threads are", "1 thread is"), hint=hint)
