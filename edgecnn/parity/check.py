"""Every artifact of a bundle on every target that runs it, against the reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from edgecnn.bundle import REFERENCE, Artifact, Bundle
from edgecnn.data.dataset import Dataset
from edgecnn.errors import DataError, TargetError, UsageError
from edgecnn.parity.baseline import Baseline, against_baseline
from edgecnn.parity.baseline_samples import Kept
from edgecnn.parity.deviation import deviation_reason
from edgecnn.parity.jobs import Job, find, jobs_of
from edgecnn.parity.judge import NO_LIMITS, Place, judge
from edgecnn.parity.limits import Limits, idle_limit
from edgecnn.parity.measured import Measured
from edgecnn.parity.rounding import rounding_of
from edgecnn.parity.runner import Runner
from edgecnn.parity.sample_sets import Reference, Trial, array_trial, check_fits, data_trial, golden_trial
from edgecnn.parity.saturation import saturation_reason
from edgecnn.parity.unsupported_ops import with_origins
from edgecnn.parity.verdict import CheckReport, Unjudged, Verdict
from edgecnn.targets.parallel import at_once
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.target import Found, Target, installed_targets
from edgecnn.types import Array, Progress

Inspect = Callable[[Artifact], int | None]
"""Counts what an artifact's file holds otherwise than its program; None where that is not known."""
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
    """Run every artifact on its golden inputs, and on a data set if there is one, against the reference.

    Hosts are asked at the same time; beside edgecnn artifacts run side by side on the cores that are there, elsewhere
    one after the other. What fails does not lose what the others say: what could not be judged is in the report, which
    then has not passed.

    Args:
        bundle: The bundle.
        targets: Where to run: names such as ``litert@pi4``, or what `edgecnn.targets.target.resolve_targets` gives.
            By default the runtimes installed beside edgecnn.
        data: A data set that fits the model's one input. What artifacts say to it is compared with ``reference``, or
            without one with the bundle's own first fp32 artifact on the first runtime that runs it, one beside edgecnn
            if there is any.
        reference: The torch reference: one array per input in, one per output out.
        time_limit: Seconds for one answer of a runtime; None for 60, on emulated boards 600.
        progress: Told about each batch, from the threads of hosts and artifacts.
        limits: What is demanded besides the defaults, or instead of them.
        baseline: What an earlier check found: what is worse now fails.
        inspect: Says what an artifact's file holds otherwise than its program:
            `edgecnn.locate.file_differences.file_differences`.

    Raises:
        BundleError: if a file of the bundle has changed.
        DataError: if the data does not fit the model.
        UsageError: if a target's name is wrong, or the bundle has nothing for it, or for a limit or the baseline.
        TargetError: if no runtime here runs an artifact and no targets were given.
    """
    found = find(bundle, targets, time_limit)
    with ExitStack() as stack:
        trials = [golden_trial(bundle)]
        if data is not None:
            trials.append(stack.enter_context(_data_trial(bundle, data, reference, found.targets, time_limit)))
        report = _report(bundle, found, trials, limits, progress, inspect)
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
    """As `check_bundle`, on arrays instead of a data set, or on golden inputs with a reference that is asked now.

    Args:
        bundle: The bundle.
        inputs: One array per input, (samples, ...); None for the golden ones.
        reference: One array per input in, one per output out.
        labels: The true classes, (samples,), if they are known.
        targets: As `check_bundle`.
        limits: As `check_bundle`.
        time_limit: As `check_bundle`.
        inspect: As `check_bundle`.

    Raises:
        DataError: if the arrays do not fit the model.
        EdgecnnError: as `check_bundle`.
    """
    trial = golden_trial(bundle, reference) if inputs is None else array_trial(bundle, inputs, reference, labels)
    return _report(bundle, find(bundle, targets, time_limit), [trial], limits, None, inspect)


def _report(
    bundle: Bundle,
    found: Found,
    trials: Sequence[Trial],
    limits: Limits,
    progress: Progress | None,
    inspect: Inspect | None,
) -> CheckReport:
    _check_precisions(bundle, limits)
    jobs, notes = jobs_of(bundle, found.targets)
    if not jobs and not found.failures:
        raise UsageError("nothing runs there that the bundle has", why="\n".join(notes), hint="edgecnn targets")
    done = _all_done(jobs, lambda job: _run(bundle, job, trials, limits, progress, inspect))
    idle = limits.unmeasured(pair for d in done for pair in d.held)
    lost = [Unjudged(target=f.target, artifact="", error=f.error) for f in found.failures]
    lost += [u for d in done for u in d.unjudged]
    lost += [Unjudged(target="", artifact="", error=idle_limit(*key)) for key in idle if key not in limits.shared]
    return CheckReport(
        verdicts=tuple(v for d in done for v in d.verdicts),
        unjudged=tuple(lost),
        notes=(*found.notes, *notes, *(n for d in done for n in d.notes)),
        idle=tuple(key for key in idle if key in limits.shared),
        kept={key: kept for d in done for key, kept in d.kept.items()},
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of it."""

    verdicts: tuple[Verdict, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    notes: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    kept: Mapping[tuple[str, str, str, str], Kept] = field(default_factory=dict)


def _all_done(jobs: Sequence[Job], run: Callable[[Job], _Done]) -> list[_Done]:
    """What came of each job: hosts at once; here as many at once as there are cores, on other hosts one by one."""
    hosts = list(dict.fromkeys(job.target.host.name for job in jobs))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def one_host(host: str) -> list[tuple[Job, _Done]]:
        own = [job for job in jobs if job.target.host.name == host]
        side_by_side = cores if own[0].target.host.kind == "local" else 1
        return list(zip(own, at_once(run, own, workers=side_by_side), strict=True))

    # Emulated boards compute here, others only wait.
    done = dict(pair for pairs in at_once(one_host, hosts, workers=max(4, 2 * cores)) for pair in pairs)
    return [done[job] for job in jobs]


def _run(
    bundle: Bundle,
    job: Job,
    trials: Sequence[Trial],
    limits: Limits,
    progress: Progress | None,
    inspect: Inspect | None,
) -> _Done:
    try:
        return _judged(bundle, job, trials, limits, progress, inspect)
    except TargetError as error:
        lost = Unjudged(target=job.target.name, artifact=job.artifact.path.name, error=with_origins(bundle, error))
        return _Done(unjudged=(lost,))


def _judged(
    bundle: Bundle,
    job: Job,
    trials: Sequence[Trial],
    limits: Limits,
    progress: Progress | None,
    inspect: Inspect | None,
) -> _Done:
    artifact, target = job.artifact, job.target
    verdicts, kept, held = [], {}, []
    with target.open(artifact.read(), artifact.path.name) as session:
        rounding = rounding_of(target.runtime, session.options)
        place = Place(
            target=target.name,
            runtime=target.runtime,
            version=session.version,
            options=session.options,
            rounding=rounding,
        )
        runner = Runner(bundle, artifact, session)
        differences = None if inspect is None else inspect(artifact)
        for trial in trials:
            for output, found in runner.run(trial, progress, where=target.name, rounding=rounding.rule):
                verdict = judge(
                    artifact,
                    place,
                    samples_from=trial.name,
                    reference=trial.reference,
                    output=output,
                    found=found,
                    limits=limits,
                    on_data=trial.on_data,
                    differences=differences if trial is trials[0] else None,
                )
                verdicts.append(deviation_reason(saturation_reason(verdict, artifact, target), artifact, target))
                held += [(artifact.precision, metric) for metric in verdict.limits]
                kept[verdict.key] = _kept(found, trial.digest())
        notes = tuple(f"{target.name}: {note}" for note in session.notes)
    return _Done(verdicts=tuple(verdicts), notes=notes, held=tuple(held), kept=kept)


def _kept(found: Measured, digest: str) -> Kept:
    scores, scene = found.scores, found.scene
    return Kept(
        digest=digest,
        extent=found.difference.scale,
        got=found.answers.got if scores else None,
        expected=found.answers.expected if scores else None,
        labels=found.answers.labels,
        counts=None if scene is None else scene.output_counts,
    )


def _check_precisions(bundle: Bundle, limits: Limits) -> None:
    """Refuse, before any work, a limit on a precision that the bundle does not have."""
    there = {a.precision for a in bundle.artifacts}
    for precision, metric in limits.values:
        if precision and precision not in there and (precision, metric) not in limits.shared:
            raise UsageError(
                f"the limit {precision}:{metric} is for nothing",
                where=str(bundle.directory),
                why=f"the bundle has {', '.join(sorted(there))}",
                hint="another precision, or leave it out",
            )


@contextmanager
def _data_trial(
    bundle: Bundle, data: Dataset, reference: Reference | None, targets: Sequence[Target], time_limit: float | None
) -> Iterator[Trial]:
    """The trial on a data set. Without a torch reference that is the first fp32 artifact, here (else there)."""
    check_fits(bundle, data)
    if reference is not None:
        with data_trial(bundle, data, reference, "torch") as trial:
            yield trial
        return
    artifact = next((a for a in bundle.artifacts if a.precision == REFERENCE), None)
    if artifact is None:
        raise DataError("the bundle has no fp32 artifact to compare with", hint="give the torch model with --model")
    near = installed_targets(time_limit=time_limit)
    runs = [t for t in (*near, *targets) if artifact.format in RUNTIMES[t.runtime].formats]
    if not runs:
        raise DataError(f"no runtime runs {artifact.path.name}, the reference", hint="the torch model with --model")
    name = runs[0].runtime if runs[0] in near else runs[0].name
    with runs[0].open(artifact.read(), artifact.path.name) as session:
        runner = Runner(bundle, artifact, session)
        with data_trial(bundle, data, runner.infer, f"{artifact.path.name} on {name}") as trial:
            yield trial
