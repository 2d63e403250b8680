"""What deserves a second look in a record, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

from edgecnn.bench.records import HostFacts, Profile, Record, Result
from edgecnn.bench.statistics import Interval, paired_ratio, ratio
from edgecnn.targets.runtimes import RUNTIMES

LOAD = 0.5
"""Processes that ran or waited for each core, before the measurement, that are worth a word."""
MEMORY = 0.1
"""Share of memory that should be available."""
OVERHEAD_NS = 1000
OVERHEAD = 0.02
"""What timing may charge to a call: this much, or this share of it."""


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """What was noticed about a result or a host, and what to try."""

    subject: str
    text: str
    hint: str


def warnings_of(record: Record) -> Iterator[Warned]:
    """All there is to say."""
    for name, host in record.hosts.items():
        yield from _host(name, host)
    for result in record.results:
        yield from _result(result)
    for int8, fp32 in slower_int8(record.results):
        yield _slower(int8, fp32)
    yield from _threads(record.results)


def slower_int8(results: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Pairs of int8 and fp32 results where int8 is slower, and the interval says so too."""
    pairs = []
    for int8 in results:
        for fp32 in results:
            alike = (int8.precision, fp32.precision) == ("int8", "fp32") and _place(int8) == _place(fp32)
            if alike and int8.samples_ns and fp32.samples_ns and _above(int8, fp32, 1.0):
                pairs.append((int8, fp32))
    return pairs


def compared(new: Result, old: Result) -> Interval:
    """How many times as long ``new`` takes as ``old`` of the same run; round by round where they took turns."""
    compare = paired_ratio if new.group == old.group else ratio
    return compare(new.rounds, old.rounds)


def _above(new: Result, old: Result, limit: float) -> bool:
    low = compared(new, old).low
    return low is not None and low > limit


def _place(result: Result) -> tuple[str, str, int, int]:
    return (result.format, result.target, result.threads, result.batch)


def _host(name: str, host: HostFacts) -> Iterator[Warned]:
    before = host.before
    if host.kind == "emulated":
        return
    if before.governor not in (None, "performance"):
        text = f"the frequency's governor is {before.governor}, so it follows the load"
        yield Warned(subject=name, text=text, hint="sudo cpupower frequency-set -g performance")
    cores = host.cores or 1
    if before.load and before.load[0] > LOAD * cores:
        text = f"{before.load[0]:.1f} processes were running or waiting on {cores} cores before the measurement"
        yield Warned(subject=name, text=text, hint="stop what else runs there: top shows it")
    if before.memory_available is not None and host.memory and before.memory_available < MEMORY * host.memory:
        swap = ", and there is swap space to move things to" if before.swap else ""
        text = f"{before.memory_available >> 20} of {host.memory >> 20} MiB of memory were available{swap}"
        yield Warned(subject=name, text=text, hint="stop what else runs there, or sudo swapoff -a")


def _result(result: Result) -> Iterator[Warned]:
    facts = result.processes
    if any(p.debug for p in facts):
        text = "the runtime or Python is a debug build"
        yield Warned(subject=result.label, text=text, hint="the release build: pip install --force-reinstall")
    if result.options.get("xnnpack") is True and any(p.delegates == 0 for p in facts):
        text = "XNNPACK did not start: the interpreter's own kernels run"
        hint = "another version of the runtime, or xnnpack=off to ask for that on purpose"
        yield Warned(subject=result.label, text=text, hint=hint)
    if result.statistics is not None:
        overhead = sorted(p.overhead_ns for p in facts)[len(facts) // 2]
        if overhead > max(OVERHEAD_NS, OVERHEAD * result.statistics.p50.value):
            text = f"timing itself costs {overhead:,} ns per call"
            yield Warned(subject=result.label, text=text, hint="--batch for more work in each call")
    if result.precision == "int8" and result.profile is not None:
        yield from _floats(result, result.profile)


def _floats(result: Result, profile: Profile) -> Iterator[Warned]:
    found = [o for o in profile.operators if o.floats]
    if found:
        share = sum(o.share for o in found)
        names = ", ".join(f"{o.module} ({o.operator})" for o in found[:5])
        text = f"computes in float in an int8 file: {names}; {share:.0%} of the time"
        hint = "graph_optimization=all if that was changed; else a recipe that does not leave these layers in float"
        yield Warned(subject=result.label, text=text, hint=hint)


def _slower(int8: Result, fp32: Result) -> Warned:
    found = compared(int8, fp32)
    text = f"int8 takes {found.value:.2f} times as long as fp32"
    worst = _worst(int8.profile, fp32.profile)
    if worst is not None:
        text += f", most of it in {worst[0]} ({worst[1] / 1000:+,.1f} us)"
    others = [r for r in RUNTIMES.values() if r.installation == "dependency" and int8.format not in r.formats]
    other = f"{others[0].name} (the .{others[0].formats[0]} of the same bundle)"
    hint = f"{other}; or a recipe that leaves that layer in float; or fp32 on this target"
    return Warned(subject=int8.label, text=text, hint=hint)


def _worst(int8: Profile | None, fp32: Profile | None) -> tuple[str, float] | None:
    """The module whose time has grown the most, and by how many ns."""
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


def _threads(results: Iterable[Result]) -> Iterator[Warned]:
    """More threads that do not help."""
    rows: dict[tuple[str, str, int], list[Result]] = {}
    for result in results:
        if result.samples_ns:
            rows.setdefault((result.artifact, result.target, result.batch), []).append(result)
    for sweep in rows.values():
        ordered = sorted(sweep, key=lambda r: r.threads)
        for few, many in pairwise(ordered):
            if few.threads < many.threads and _above(many, few, 1.0):
                text = f"{few.threads} threads are faster than {many.threads}: by {compared(many, few).value:.2f} times"
                hint = f"threads={few.threads}; the layers are too small to share out"
                yield Warned(subject=many.label, text=text.replace("1 threads are", "1 thread is"), hint=hint)
