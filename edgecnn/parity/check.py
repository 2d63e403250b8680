"""Every artifact of a bundle on every target that runs it, against the reference."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edgecnn.bundle import REFERENCE, Artifact, Bundle, Golden
from edgecnn.data.dataset import Dataset
from edgecnn.errors import DataError, TargetError, UsageError
from edgecnn.parity.rounding import STANDS_FOR, rounding_of
from edgecnn.parity.runner import Array, Batch, Progress, Runner, Trial
from edgecnn.parity.saturation import saturation_reason
from edgecnn.parity.verdict import CheckReport, Place, Unjudged, Verdict, judge
from edgecnn.targets.parallel import at_once
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for
from edgecnn.targets.target import Found, Target, find_targets, installed_targets

Reference = Callable[[Sequence[Array]], Sequence[Array]]
BATCH = 64
__all__ = ["CheckReport", "Verdict", "check_bundle"]


def check_bundle(
    bundle: Bundle,
    *,
    targets: Sequence[Target | str] | None = None,
    data: Dataset | None = None,
    reference: Reference | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Run every artifact on its golden inputs, and on a data set if there is one, against the reference.

    Hosts are asked at the same time, each by itself. One that fails does not lose what the others say: what could not
    be judged is in the report, which then has not passed.

    Args:
        bundle: The bundle.
        targets: Where to run: names such as ``litert@pi4``, or what `edgecnn.targets.target.resolve_targets` gives.
            By default the runtimes installed beside edgecnn.
        data: A data set that fits the model's one input. What artifacts say to it is compared with ``reference``, or
            without one with the bundle's own first fp32 artifact on the first runtime that runs it, one beside edgecnn
            if there is any.
        reference: The torch reference: one array per input in, one per output out.
        time_limit: Seconds for one answer of a runtime; None for 60, on emulated boards 600.
        progress: Told about each batch, from the thread of each host.

    Raises:
        BundleError: if a file of the bundle has changed.
        DataError: if the data does not fit the model.
        UsageError: if a target's name is wrong, or the bundle has nothing for it.
        TargetError: if no runtime here runs an artifact and no targets were given.
    """
    found = _found(bundle, targets, time_limit)
    trials = [_golden_trial(bundle)]
    if data is not None:
        trials.append(_data_trial(bundle, data, reference, found.targets, time_limit))
    jobs, notes = _jobs(bundle, found.targets)
    if not jobs and not found.failures:
        raise UsageError("nothing runs there that the bundle has", why="\n".join(notes), hint="edgecnn targets")
    hosts = list(dict.fromkeys(job.target.host.name for job in jobs))

    def one_host(host: str) -> list[_Done]:
        return [_run(bundle, job, trials, progress) for job in jobs if job.target.host.name == host]

    workers = max(4, 2 * (os.cpu_count() or 1))  # emulated boards compute here, others only wait
    done = {d.job: d for results in at_once(one_host, hosts, workers=workers) for d in results}
    lost = [Unjudged(target=f.target, artifact="", error=f.error) for f in found.failures]
    return CheckReport(
        verdicts=tuple(v for job in jobs for v in done[job].verdicts),
        unjudged=(*lost, *(u for job in jobs for u in done[job].unjudged)),
        notes=(*found.notes, *notes, *(n for job in jobs for n in done[job].notes)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """An artifact on a target."""

    artifact: Artifact
    target: Target


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of it."""

    job: _Job
    verdicts: tuple[Verdict, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    notes: tuple[str, ...] = ()


def _found(bundle: Bundle, targets: Sequence[Target | str] | None, time_limit: float | None) -> Found:
    if targets is None:
        here = installed_targets(time_limit=time_limit)
        for artifact in bundle.artifacts:
            _check_runs_here(artifact, here)
        return Found(targets=tuple(here))
    if not targets:
        raise UsageError("no target is given", hint="litert, onnxruntime@pi4, ...")
    names = [t for t in targets if isinstance(t, str)]
    found = find_targets(names, time_limit=time_limit) if names else Found(targets=())
    return replace(found, targets=(*(t for t in targets if isinstance(t, Target)), *found.targets))


def _check_runs_here(artifact: Artifact, here: Sequence[Target]) -> None:
    rows = runtimes_for(artifact.format)
    if rows and not {row.name for row in rows} & {target.runtime for target in here}:
        raise TargetError(
            f"no runtime here runs {artifact.path.name}",
            hint=f"python -m pip install {rows[0].distribution}\nor --target for another place: edgecnn targets",
        )


def _jobs(bundle: Bundle, targets: Sequence[Target]) -> tuple[list[_Job], list[str]]:
    """What runs where, by artifacts; and what a runtime cannot run, with the reason."""
    for target in targets:
        _check_has_work(bundle, target)
    jobs, notes = [], []
    for artifact in bundle.artifacts:
        for target in targets:
            row = RUNTIMES[target.runtime]
            if artifact.format not in row.formats:
                continue  # among them C source: it is the int8 TFLite file, which is checked itself
            if artifact.precision in row.lacks:
                notes.append(f"{artifact.path.name} is left out on {target.name}: {row.lacks[artifact.precision]}")
            else:
                jobs.append(_Job(artifact, target))
    return jobs, notes


def _check_has_work(bundle: Bundle, target: Target) -> None:
    row = RUNTIMES[target.runtime]
    runs = [a for a in bundle.artifacts if a.format in row.formats]
    if target.asked_for and not [a for a in runs if a.precision not in row.lacks]:
        reasons = [f"{a.path.name}: {row.lacks[a.precision]}" for a in runs]
        files = ", ".join(a.path.name for a in bundle.artifacts)
        formats = ",".join(row.formats)
        raise UsageError(
            f"{target.name} has nothing to run",
            where=str(bundle.directory),
            why="\n".join(reasons) or f"{target.runtime} runs {formats}, and the bundle has {files}",
            hint="another target, or export with " + ("other --precisions" if reasons else f"--formats {formats}"),
        )


def _run(bundle: Bundle, job: _Job, trials: Sequence[Trial], progress: Progress | None) -> _Done:
    try:
        verdicts, notes = _verdicts(bundle, job, trials, progress)
        return _Done(job, verdicts=tuple(verdicts), notes=tuple(f"{job.target.name}: {note}" for note in notes))
    except TargetError as error:
        return _Done(job, unjudged=(Unjudged(target=job.target.name, artifact=job.artifact.path.name, error=error),))


def _verdicts(
    bundle: Bundle, job: _Job, trials: Sequence[Trial], progress: Progress | None
) -> tuple[list[Verdict], tuple[str, ...]]:
    artifact, target = job.artifact, job.target
    verdicts = []
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
        for trial in trials:
            for output, found in runner.run(trial, progress, where=target.name, rounding=rounding.rule):
                verdicts.append(
                    judge(
                        artifact, place, samples_from=trial.name, reference=trial.reference, output=output, found=found
                    )
                )
        notes = session.notes
    return [saturation_reason(v, artifact, target) for v in verdicts], notes


def _golden_trial(bundle: Bundle) -> Trial:
    golden = bundle.golden()
    inputs = [golden.inputs[i.name] for i in bundle.manifest.inputs]
    names = [o.name for o in bundle.manifest.outputs]

    def batches(precision: str, rounding: str) -> Iterator[Batch]:
        own = None if precision == REFERENCE else _by_rule(golden, precision, rounding)
        for start in range(0, golden.samples, BATCH):
            part = slice(start, start + BATCH)
            yield Batch(
                inputs=[a[part] for a in inputs],
                expected=[golden.outputs[REFERENCE][n][part] for n in names],
                labels=None if golden.labels is None else golden.labels[part],
                own=None if own is None else [own[n][part] for n in names],
            )

    return Trial(f"{golden.samples} golden inputs", "torch", golden.samples, batches)


def _by_rule(golden: Golden, precision: str, rounding: str) -> Mapping[str, Array] | None:
    """The golden outputs of a precision by a rule of rounding, or by the rule that stands for it."""
    while rounding in STANDS_FOR:
        if (own := golden.outputs.get(f"{precision}-{rounding}")) is not None:
            return own
        rounding = STANDS_FOR[rounding]
    return golden.outputs.get(precision)


def _data_trial(
    bundle: Bundle, data: Dataset, reference: Reference | None, targets: Sequence[Target], time_limit: float | None
) -> Trial:
    inputs = bundle.manifest.inputs
    if len(inputs) != 1 or tuple(inputs[0].shape[1:]) != tuple(data.input_shape):
        raise DataError(
            f"{data.name} holds images of {'x'.join(map(str, data.input_shape))},"
            f" the model takes {' and '.join('x'.join(map(str, i.shape[1:])) for i in inputs)}",
            hint="a data set of the model's input shape",
        )
    name = "torch"
    expected: dict[int, Sequence[Array]] = {}
    if reference is None:
        name, answers = _artifact_reference(bundle, data, targets, time_limit)
        expected = dict(enumerate(answers))
    lock = threading.Lock()

    def batches(_precision: str, _rounding: str) -> Iterator[Batch]:
        for i, (images, labels) in enumerate(data.batches(BATCH)):
            with lock:  # the reference is asked once for each batch, and by one host's thread at a time
                if i not in expected and reference is not None:
                    expected[i] = reference([images])
            yield Batch(inputs=[images], expected=expected[i], labels=labels)

    return Trial(data.name, name, len(data), batches)


def _artifact_reference(
    bundle: Bundle, data: Dataset, targets: Sequence[Target], time_limit: float | None
) -> tuple[str, list[list[Array]]]:
    """What the first fp32 artifact says here (else there), as the reference for a data set without a module to ask."""
    artifact = next((a for a in bundle.artifacts if a.precision == REFERENCE), None)
    if artifact is None:
        raise DataError("the bundle has no fp32 artifact to compare with", hint="give the torch model with --model")
    near = installed_targets(time_limit=time_limit)
    runs = [t for t in (*near, *targets) if artifact.format in RUNTIMES[t.runtime].formats]
    if not runs:
        raise DataError(f"no runtime runs {artifact.path.name}, the reference", hint="the torch model with --model")
    with runs[0].open(artifact.read(), artifact.path.name) as session:
        runner = Runner(bundle, artifact, session)
        name = runs[0].runtime if runs[0] in near else runs[0].name
        return f"{artifact.path.name} on {name}", [runner.infer([images]) for images, _ in data.batches(BATCH)]
