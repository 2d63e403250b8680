"""Measure every artifact of a bundle on every target, side by side."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from edgecnn._version import __version__
from edgecnn.bench.bench_job import BenchJob
from edgecnn.bench.hosts import host_facts, peak_macs, with_conditions_after
from edgecnn.bench.macs import macs_of
from edgecnn.bench.profile import profile_job
from edgecnn.bench.records import HostFacts, ProcessFacts, Record, Result, derived_record, plain
from edgecnn.bench.sampling import ProcessTrace, Trace, measure
from edgecnn.bench.warmup import BenchSettings
from edgecnn.bench.warnings import BenchWarning, slower_int8, warnings_of
from edgecnn.bundle import Bundle
from edgecnn.errors import EdgecnnError, TargetError, UsageError
from edgecnn.parity.check_jobs import requested_targets
from edgecnn.parity.runner import stored_inputs
from edgecnn.parity.unsupported_ops import with_origins
from edgecnn.targets.emulation.count import DEFAULT_REPEAT, count_instructions
from edgecnn.targets.hosts.emulated import EmulatedHost
from edgecnn.targets.parallel import at_once
from edgecnn.targets.runtimes import RUNTIMES, OptionValue
from edgecnn.targets.target import Target, TargetFailure
from edgecnn.types import Progress

TOGETHER = 6
"""Number of processes that are open at the same time on a host; more could exceed a board's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """The results of `bench_bundle`.

    Attributes:
        record: The record of the measurement.
        warnings: Suspicious findings, each with a remedy.
        failures: Targets that could not be reached.
        notes: What was skipped, and why.
    """

    record: Record
    warnings: tuple[BenchWarning, ...] = ()
    failures: tuple[TargetFailure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[Result, ...]:
        """One result for each artifact, target, number of threads and batch."""
        return self.record.results

    @property
    def valid(self) -> bool:
        """Whether every result can be trusted."""
        return all(result.valid for result in self.results)

    @property
    def complete(self) -> bool:
        """Whether there is a result for everything that was requested."""
        return not self.failures and all(result.error is None for result in self.results)

    def as_json(self, *, samples: bool = True) -> dict[str, Any]:
        """Convert to plain values: the record, warnings, failures and notes."""
        value: dict[str, Any] = plain(self.record, samples=samples)
        value["warnings"] = [msgspec.to_builtins(w) for w in self.warnings]
        value["failures"] = [{"target": f.target, "error": str(f.error)} for f in self.failures]
        return {**value, "notes": list(self.notes)}


def bench_bundle(
    bundle: Bundle,
    *,
    targets: Sequence[Target | str] | None = None,
    limits: BenchSettings | None = None,
    threads: Sequence[int] = (),
    batches: Sequence[int] = (1,),
    profile: bool = False,
    time_limit: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure how long every artifact takes on every target that runs it.

    On emulated boards instructions are counted instead: time under emulation says nothing about a board.

    Args:
        bundle: The bundle; its golden inputs are the inputs of all runs.
        targets: Names such as ``litert@pi4``, or `edgecnn.targets.target.Target`. By default the runtimes
            installed with edgecnn.
        limits: How long to measure, and in how many processes.
        threads: Numbers of threads to try; by default that of the target's options, or 1.
        batches: Samples in each call.
        profile: Also measure the time of each operator.
        time_limit: Seconds to wait for one reply of a runtime; None for 60, or 600 on emulated boards.
        seed: Seed of the order in which artifacts take turns.
        progress: Called after each round.

    Raises:
        BundleError: A file of the bundle has changed.
        UsageError: A target's name is wrong, or the targets run no artifact.
        TargetError: A host cannot report its facts.
    """
    limits = limits or BenchSettings()
    found = requested_targets(targets, time_limit)
    jobs, notes = plan(bundle, found.targets, threads, batches)
    if not jobs and not found.failures:
        raise UsageError("the targets run no artifact of the bundle", why="\n".join(notes), hint="edgecnn targets")
    run = _BenchRun(bundle, limits, profile, seed, progress)
    by_host: dict[str, list[BenchJob]] = {}
    for job in jobs:
        by_host.setdefault(job.target.host.name, []).append(job)
    # Devices are measured in parallel; this machine and emulated boards share its processors, so they take turns.
    remote = [own for own in by_host.values() if own[0].target.host.kind == "ssh"]
    rest = [own for own in by_host.values() if own[0].target.host.kind != "ssh"]
    done = [*at_once(run.host, remote), *(run.host(own) for own in rest)]
    results = {id(job): result for d in done for job, result in d.results}
    record = Record(
        edgecnn=__version__,
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.name,
        options=msgspec.to_builtins(limits),
        hosts={d.host: d.facts for d in done if d.facts is not None},
        results=tuple(results[id(job)] for job in jobs if id(job) in results),
    )
    record = derived_record(record)
    return BenchReport(
        record=record,
        warnings=tuple(warnings_of(record)),
        failures=(*found.failures, *(f for d in done for f in d.failures)),
        notes=(*found.notes, *notes),
    )


def plan(
    bundle: Bundle, targets: Sequence[Target], threads: Sequence[int], batches: Sequence[int]
) -> tuple[list[BenchJob], list[str]]:
    """The jobs for all artifacts, targets, threads and batches, and notes on what is skipped, with the reason."""
    golden = bundle.golden()
    inputs = [golden.inputs[i.name] for i in bundle.manifest.inputs]
    macs = _macs(bundle)
    jobs: list[BenchJob] = []
    notes: list[str] = []
    for artifact in bundle.artifacts:
        for target in targets:
            row = RUNTIMES[target.runtime]
            if artifact.format not in row.formats:
                continue
            if artifact.precision in row.lacks:
                notes.append(f"{artifact.path.name} is skipped on {target.name}: {row.lacks[artifact.precision]}")
                continue
            for number in threads or (int(target.options.get("threads", 1)),):
                for batch in batches:
                    if why := _unfit(bundle, target, number, batch):
                        notes.append(f"{target.name}: {why}")
                        continue
                    samples = [np.resize(array, (batch, *array.shape[1:])) for array in inputs]
                    stored = stored_inputs(bundle.manifest, artifact, samples)
                    jobs.append(
                        BenchJob(
                            artifact=artifact, target=target, threads=number, batch=batch, inputs=stored, macs=macs
                        )
                    )
    return jobs, list(dict.fromkeys(notes))


def _unfit(bundle: Bundle, target: Target, threads: int, batch: int) -> str:
    if batch != 1 and not bundle.manifest.batch_resizable:
        return f"without batch {batch}: the model mixes the samples of a batch"
    runtime = RUNTIMES[target.runtime]
    if batch != 1 and runtime.fixed_batch:
        return f"without batch {batch}: {runtime.title}'s shapes are fixed"
    if threads != 1 and runtime.single_thread:
        return f"without {threads} threads: {runtime.title} has one"
    if threads != 1 and target.host.kind == "emulated":
        return f"without {threads} threads: instructions are counted with one"
    return ""


@dataclass(frozen=True, slots=True)
class _HostDone:
    host: str
    facts: HostFacts | None
    results: list[tuple[BenchJob, Result]]
    failures: tuple[TargetFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class _BenchRun:
    bundle: Bundle
    limits: BenchSettings
    profile: bool
    seed: int
    progress: Progress | None

    def host(self, jobs: Sequence[BenchJob]) -> _HostDone:
        """Measure everything on one host."""
        host, limit = jobs[0].target.host, jobs[0].target.time_limit
        try:
            facts = host_facts(host, time_limit=limit)
        except TargetError as error:
            return _HostDone(host.name, None, [], (TargetFailure(target=host.name, error=error),))
        if isinstance(host, EmulatedHost):
            return _HostDone(host.name, facts, [(job, self._counted(host, job)) for job in jobs])
        traces: list[tuple[BenchJob, Result]] = []
        for group in range(0, len(jobs), TOGETHER):
            together = jobs[group : group + TOGETHER]
            rng = np.random.default_rng(self.seed)
            found = measure(together, self.limits, rng=rng, progress=self.progress)
            for trace in found:
                if trace.error is not None:
                    trace.error = with_origins(self.bundle, trace.error)
            traces += [(j, _result(j, t, facts, group // TOGETHER)) for j, t in zip(together, found, strict=True)]
        try:
            facts = with_conditions_after(host, facts, time_limit=limit)
        except TargetError as error:
            traces = [(j, msgspec.structs.replace(r, notes=(*r.notes, str(error.message)))) for j, r in traces]
        # A profile is made if requested, or if needed to find the layer that makes int8 slower.
        wanted = {r.key for pair in slower_int8([result for _, result in traces]) for r in pair}
        done = [(j, self._profiled(j, r) if self.profile or r.key in wanted else r) for j, r in traces]
        return _HostDone(host.name, facts, done)

    def _profiled(self, job: BenchJob, result: Result) -> Result:
        if result.error is not None:
            return result
        try:
            return msgspec.structs.replace(result, profile=profile_job(job))
        except EdgecnnError as error:
            return msgspec.structs.replace(result, notes=(*result.notes, f"no profile: {error.message}"))

    def _counted(self, host: EmulatedHost, job: BenchJob) -> Result:
        options: dict[str, OptionValue] = {k: v for k, v in job.options.items() if k != "threads"}
        if self.progress is not None:
            self.progress(f"counting {job.name}", 0, 1)
        base = _named(job)
        try:
            counts = count_instructions(
                host,
                job.target.runtime,
                job.artifact.read(),
                job.artifact.path.name,
                list(job.inputs),
                repeat=DEFAULT_REPEAT,
                time_limit=job.target.time_limit,
                **options,
            )
        except TargetError as error:
            return msgspec.structs.replace(base, error=str(with_origins(self.bundle, error)))
        return msgspec.structs.replace(
            base,
            version=counts.version,
            options=dict(counts.options),
            instructions=counts.per_inference,
            kinds=dict(counts.kinds),
        )


def _named(job: BenchJob) -> Result:
    artifact, target = job.artifact, job.target
    return Result(
        artifact=artifact.path.name,
        format=artifact.format,
        precision=artifact.precision,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        target=target.name,
        host=target.host.name,
        runtime=target.runtime,
        version=target.version or "",
        options=dict(job.options),
        threads=job.threads,
        batch=job.batch,
        macs=None if job.macs is None else job.macs * job.batch,
    )


def _macs(bundle: Bundle) -> int | None:
    """Multiply-accumulates of the model: the smallest of its files' counts, since some files add channels of zeros."""
    return min((m for a in bundle.artifacts if (m := macs_of(a.format, a.read())) is not None), default=None)


def _result(job: BenchJob, trace: Trace, facts: HostFacts, group: int) -> Result:
    starts = [process.start for process in trace.processes]
    options: Mapping[str, OptionValue] = starts[0].options if starts else job.options
    resumed = tuple(f"{line}; measured again in a new process" for line in trace.resumed)
    return msgspec.structs.replace(
        _named(job),
        version=starts[0].version if starts else job.target.version or "",
        options=dict(options),
        samples_ns=tuple(tuple(np.concatenate(p.rounds).tolist()) for p in trace.processes),
        processes=tuple(_facts(process) for process in trace.processes),
        group=group,
        peak_macs=peak_macs(facts, job.artifact.precision, job.threads),
        notes=(*dict.fromkeys(note for start in starts for note in start.notes), *resumed),
        error=None if trace.error is None else str(trace.error),
    )


def _facts(process: ProcessTrace) -> ProcessFacts:
    start = process.start
    return ProcessFacts(
        rounds=tuple(map(len, process.rounds)),
        load_ns=start.load_ns,
        first_ns=start.bound.first_ns,
        overhead_ns=start.bound.overhead_ns,
        warmup_calls=process.warmup_calls,
        steady=process.steady,
        wall_ns=tuple(process.wall_ns),
        cpu_ns=tuple(process.cpu_ns),
        khz=tuple(process.khz),
        resident_kb=start.resident_kb,
        peak_kb=process.peak_kb,
        arena_bytes=start.arena_bytes,
        debug=start.bound.debug,
        delegates=start.bound.delegates,
    )
