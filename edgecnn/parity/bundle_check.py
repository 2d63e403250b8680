"""Run every artifact of a bundle on every target that supports it, and compare it with the reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from edgecnn.bundle import REFERENCE, Artifact, Bundle
from edgecnn.data.dataset import Dataset
from edgecnn.errors import DataError, TargetError, UsageError
from edgecnn.parity.baseline import Baseline, against_baseline
from edgecnn.parity.baseline_samples import BaselineSamples
from edgecnn.parity.check_jobs import CheckJob, jobs_of, targets_for
from edgecnn.parity.deviation import deviation_reason
from edgecnn.parity.golden_rules import rounding_of
from edgecnn.parity.judge import NO_LIMITS, RunContext, judge
from edgecnn.parity.limits import Limits, idle_limit
from edgecnn.parity.measured import Measured
from edgecnn.parity.plain_session import Opened, PlainSession, failed_run, plain_sessions
from edgecnn.parity.runner import Runner
from edgecnn.parity.sample_sets import (
    Reference,
    SampleSet,
    array_sample_set,
    check_fits,
    data_sample_set,
    golden_sample_set,
)
from edgecnn.parity.saturation_reason import saturation_reason
from edgecnn.parity.unsupported_ops import with_origins
from edgecnn.parity.verdict import CheckReport, Unjudged, Verdict
from edgecnn.targets.parallel import at_once
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.target import Found, Target, installed_targets
from edgecnn.types import Array, Progress

Inspect = Callable[[Artifact], int | None]
"""Counts the differences between an artifact's file and its program; None if that is unknown."""
__all__ = ["CheckReport", "Verdict", "check_bundle", "check_inputs"]


def check_bundle(
    bundle: Bundle,
    *,
    targets: Sequence[Target | str] | None = None,
    data: Dataset | None = None,
    reference: Reference | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    limits: Limits = NO_LIMITS,
    baseline: Baseline | None = None,
    inspect: Inspect | None = None,
) -> CheckReport:
    """Run every artifact on the golden inputs, and on a data set if given, and compare it with the reference.

    All hosts work at the same time. On this machine artifacts run in parallel, one per core; on other hosts they run
    one after the other. A failure of one artifact or target does not discard the results of the others: the report
    lists what could not be judged, and then has not passed.

    Args:
        bundle: The bundle.
        targets: Where to run: names such as ``litert@pi4``, or what `edgecnn.targets.target.resolve_targets` gives.
            By default the runtimes installed with edgecnn.
        data: A data set that fits the model's one input. Outputs on it are compared with ``reference``; without one,
            with the bundle's first fp32 artifact on the first runtime that runs it, preferably one installed with
            edgecnn.
        reference: The torch reference: one array per input in, one per output out.
        time_limit: Seconds to wait for one reply of a runtime; None for 60, or 600 on emulated boards.
        progress: Called for each batch, from the threads of hosts and artifacts.
        limits: Limits that add to the defaults or replace them.
        baseline: Results of an earlier check; whatever is worse now fails.
        inspect: Counts the differences between an artifact's file and its program:
            `edgecnn.locate.file_differences.file_differences`.

    Raises:
        BundleError: if a file of the bundle has changed.
        DataError: if the data does not fit the model.
        UsageError: if a target's name is wrong, if the bundle has nothing that a target runs, or if a limit or the
            baseline matches no artifact.
        TargetError: if no targets were given and no runtime on this machine runs an artifact.
    """
    found = targets_for(bundle, targets, time_limit)
    with ExitStack() as stack:
        sample_sets = [golden_sample_set(bundle)]
        if data is not None:
            sample_sets.append(stack.enter_context(_data_samples(bundle, data, reference, found.targets, time_limit)))
        report = _report(bundle, found, sample_sets, limits, progress, inspect)
    return report if baseline is None else against_baseline(report, baseline)


def check_inputs(
    bundle: Bundle,
    inputs: Sequence[Array] | None,
    reference: Reference,
    *,
    labels: Array | None = None,
    targets: Sequence[Target | str] | None = None,
    limits: Limits = NO_LIMITS,
    time_limit: float | None = None,
    inspect: Inspect | None = None,
) -> CheckReport:
    """Check a bundle on arrays, or on its golden inputs with a reference that is run now; else as `check_bundle`.

    Args:
        bundle: The bundle.
        inputs: One array per input, (samples, ...); None for the golden inputs.
        reference: One array per input in, one per output out.
        labels: True classes, (samples,), if known.
        targets: As `check_bundle`.
        limits: As `check_bundle`.
        time_limit: As `check_bundle`.
        inspect: As `check_bundle`.

    Raises:
        DataError: if the arrays do not fit the model.
        EdgecnnError: as `check_bundle`.
    """
    samples = (
        golden_sample_set(bundle, reference) if inputs is None else array_sample_set(bundle, inputs, reference, labels)
    )
    return _report(bundle, targets_for(bundle, targets, time_limit), [samples], limits, None, inspect)


def _report(
    bundle: Bundle,
    found: Found,
    sample_sets: Sequence[SampleSet],
    limits: Limits,
    progress: Progress | None,
    inspect: Inspect | None,
) -> CheckReport:
    _check_precisions(bundle, limits)
    jobs, notes = jobs_of(bundle, found.targets)
    if not jobs and not found.failures:
        raise UsageError("the targets run no artifact of the bundle", why="\n".join(notes), hint="edgecnn targets")
    done = _all_done(jobs, lambda job: _run(bundle, job, sample_sets, limits, progress, inspect))
    idle = limits.unmeasured(pair for d in done for pair in d.held)
    lost = [Unjudged(target=f.target, artifact="", error=f.error) for f in found.failures]
    lost += [u for d in done for u in d.unjudged]
    lost += [Unjudged(target="", artifact="", error=idle_limit(*key)) for key in idle if key not in limits.shared]
    return CheckReport(
        verdicts=tuple(v for d in done for v in d.verdicts),
        unjudged=tuple(lost),
        notes=(*found.notes, *notes, *(n for d in done for n in d.notes)),
        idle=tuple(key for key in idle if key in limits.shared),
        baseline_samples={key: kept for d in done for key, kept in d.baseline_samples.items()},
        plain_sessions=tuple(p for d in done for p in d.plain_sessions),
    )


@dataclass(frozen=True, slots=True)
class _JobResult:
    """The results of one check job."""

    verdicts: tuple[Verdict, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    notes: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    baseline_samples: Mapping[tuple[str, str, str, str], BaselineSamples] = field(default_factory=dict)
    plain_sessions: tuple[PlainSession, ...] = ()


def _all_done(jobs: Sequence[CheckJob], run: Callable[[CheckJob], _JobResult]) -> list[_JobResult]:
    """The result of each job. Hosts work in parallel; jobs run one per core on this machine, one by one elsewhere."""
    hosts = list(dict.fromkeys(job.target.host.name for job in jobs))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def one_host(host: str) -> list[tuple[CheckJob, _JobResult]]:
        own = [job for job in jobs if job.target.host.name == host]
        side_by_side = cores if own[0].target.host.kind == "local" else 1
        return list(zip(own, at_once(run, own, workers=side_by_side), strict=True))

    # Emulated boards use this machine's cores; for other hosts a thread only waits.
    done = dict(pair for pairs in at_once(one_host, hosts, workers=max(4, 2 * cores)) for pair in pairs)
    return [done[job] for job in jobs]


def _run(
    bundle: Bundle,
    job: CheckJob,
    sample_sets: Sequence[SampleSet],
    limits: Limits,
    progress: Progress | None,
    inspect: Inspect | None,
) -> _JobResult:
    try:
        return _judged(bundle, job, sample_sets, limits, progress, inspect)
    except TargetError as error:
        lost = Unjudged(target=job.target.name, artifact=job.artifact.path.name, error=with_origins(bundle, error))
        return _JobResult(unjudged=(lost,))


def _judged(
    bundle: Bundle,
    job: CheckJob,
    sample_sets: Sequence[SampleSet],
    limits: Limits,
    progress: Progress | None,
    inspect: Inspect | None,
) -> _JobResult:
    artifact, target = job.artifact, job.target
    verdicts, kept, held = [], {}, []
    with target.open(artifact.read(), artifact.path.name) as session:
        rounding = rounding_of(target.runtime, session.options)
        place = RunContext(
            target=target.name,
            runtime=target.runtime,
            version=session.version,
            options=session.options,
            rounding=rounding,
        )
        runner = Runner(bundle, artifact, session)
        differences = None if inspect is None else inspect(artifact)
        for samples in sample_sets:
            for output, found in runner.run(samples, progress, where=target.name, rounding=rounding.rule):
                verdict = judge(
                    artifact,
                    place,
                    samples_from=samples.name,
                    reference=samples.reference,
                    output=output,
                    found=found,
                    limits=limits,
                    on_data=samples.on_data,
                    differences=differences if samples is sample_sets[0] else None,
                )
                verdicts.append(deviation_reason(saturation_reason(verdict, artifact, target), artifact, target))
                held += [(artifact.precision, metric) for metric in verdict.limits]
                kept[verdict.key] = _baseline_samples(found, samples.digest())
        notes = [f"{target.name}: {note}" for note in session.notes]
        plain = _plain_sessions(bundle, job, session, sample_sets[0], notes)
    return _JobResult(
        verdicts=tuple(verdicts), notes=tuple(notes), held=tuple(held), baseline_samples=kept, plain_sessions=plain
    )


def _plain_sessions(
    bundle: Bundle, job: CheckJob, session: Opened, samples: SampleSet, notes: list[str]
) -> tuple[PlainSession, ...]:
    """What sessions without protection from saturation compute on the golden inputs; notes say it, or why not."""
    if samples.on_data:
        return ()
    try:
        plain = plain_sessions(bundle, job.artifact, job.target, session, samples)
    except TargetError as error:
        notes.append(failed_run(job.artifact, job.target, error))
        return ()
    notes += [p.sentence() for p in plain]
    return plain


def _baseline_samples(found: Measured, digest: str) -> BaselineSamples:
    scores, scene = found.scores, found.scene
    return BaselineSamples(
        digest=digest,
        extent=found.difference.scale,
        got=found.answers.got if scores else None,
        expected=found.answers.expected if scores else None,
        labels=found.answers.labels,
        counts=None if scene is None else scene.output_counts,
    )


def _check_precisions(bundle: Bundle, limits: Limits) -> None:
    """Refuse a limit on a precision that the bundle does not have, before any work starts."""
    there = {a.precision for a in bundle.artifacts}
    for precision, metric in limits.values:
        if precision and precision not in there and (precision, metric) not in limits.shared:
            raise UsageError(
                f"the limit {precision}:{metric} matches no artifact",
                where=str(bundle.directory),
                why=f"the bundle has {', '.join(sorted(there))}",
                hint="another precision, or remove the limit",
            )


@contextmanager
def _data_samples(
    bundle: Bundle, data: Dataset, reference: Reference | None, targets: Sequence[Target], time_limit: float | None
) -> Iterator[SampleSet]:
    """The samples of a data set.

    Without a torch reference, the first fp32 artifact is the reference; it runs on this machine if a runtime here
    supports it, else on a target.
    """
    check_fits(bundle, data)
    if reference is not None:
        with data_sample_set(bundle, data, reference, "torch") as samples:
            yield samples
        return
    artifact = next((a for a in bundle.artifacts if a.precision == REFERENCE), None)
    if artifact is None:
        raise DataError("the bundle has no fp32 artifact to compare with", hint="name the torch model: --model")
    near = installed_targets(time_limit=time_limit)
    runs = [t for t in (*near, *targets) if artifact.format in RUNTIMES[t.runtime].formats]
    if not runs:
        raise DataError(f"no runtime runs {artifact.path.name}, the reference", hint="name the torch model: --model")
    name = runs[0].runtime if runs[0] in near else runs[0].name
    with runs[0].open(artifact.read(), artifact.path.name) as session:
        runner = Runner(bundle, artifact, session)
        with data_sample_set(bundle, data, runner.infer, f"{artifact.path.name} on {name}") as samples:
            yield samples
