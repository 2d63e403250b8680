"""Every artifact of a bundle on every runtime that is here, against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgecnn.bundle import REFERENCE, Artifact, Bundle
from edgecnn.data.dataset import Dataset
from edgecnn.errors import DataError, TargetError
from edgecnn.parity.runner import Array, Batch, Progress, Runner, Trial
from edgecnn.parity.verdict import CheckReport, Verdict, judge
from edgecnn.targets.hosts.connection import Connection, Session
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes import runtimes_for

Reference = Callable[[Sequence[Array]], Sequence[Array]]
BATCH = 64
__all__ = ["CheckReport", "Verdict", "check_bundle"]


def check_bundle(
    bundle: Bundle,
    *,
    data: Dataset | None = None,
    reference: Reference | None = None,
    time_limit: float = 60.0,
    progress: Progress | None = None,
) -> CheckReport:
    """Run every artifact on its golden inputs, and on a data set if there is one, against the reference.

    Args:
        bundle: The bundle.
        data: A data set that fits the model's one input. What artifacts say to it is compared with ``reference``, or
            without one with the bundle's own first fp32 artifact on the first runtime that runs it (whose verdict on
            the golden inputs stands beside it).
        reference: The torch reference: one array per input in, one per output out.
        time_limit: Seconds for one answer of a runtime.
        progress: Told about each batch.

    Raises:
        BundleError: if a file of the bundle has changed.
        DataError: if the data does not fit the model.
        TargetError: if a runtime is missing, crashes, hangs, or gives what the manifest does not say.
    """
    host = LocalHost()
    with host.start(time_limit=time_limit) as connection:
        installed = connection.hello().runtimes
    trials = [_golden_trial(bundle)]
    if data is not None:
        trials.append(_data_trial(bundle, data, reference, _Here(host, installed, time_limit)))
    verdicts: list[Verdict] = []
    for artifact in bundle.artifacts:
        if not runtimes_for(artifact.format):
            continue  # C source: it is the int8 TFLite file, which is checked itself
        for runtime in _runtimes_here(artifact, installed):
            # A process for each: a runtime that crashes takes nothing with it.
            with host.start(time_limit=time_limit) as connection, _open(connection, artifact, runtime) as session:
                runner = Runner(bundle, artifact, session)
                for trial in trials:
                    verdicts += [
                        judge(
                            artifact,
                            runtime,
                            session.version,
                            samples_from=trial.name,
                            reference=trial.reference,
                            output=output,
                            found=found,
                        )
                        for output, found in runner.run(trial, progress)
                    ]
    return CheckReport(tuple(verdicts))


@dataclass(frozen=True, slots=True)
class _Here:
    """This machine and the runtimes on it."""

    host: LocalHost
    installed: Mapping[str, str | None]
    time_limit: float


def _runtimes_here(artifact: Artifact, installed: Mapping[str, str | None]) -> list[str]:
    rows = runtimes_for(artifact.format)
    here = [r.name for r in rows if r.name in installed]
    if not here:
        raise TargetError(
            f"no runtime here runs {artifact.path.name}",
            hint=" or ".join(f"python -m pip install {r.distribution}" for r in rows[:1]),
        )
    return here


def _open(connection: Connection, artifact: Artifact, runtime: str) -> Session:
    # One thread: with several, a runtime may add in another order from run to run.
    return connection.open(runtime, artifact.read(), artifact.path.name, threads=1)


def _golden_trial(bundle: Bundle) -> Trial:
    golden = bundle.golden()
    inputs = [golden.inputs[i.name] for i in bundle.manifest.inputs]
    names = [o.name for o in bundle.manifest.outputs]

    def batches(precision: str) -> Iterator[Batch]:
        own = golden.outputs.get(precision) if precision != REFERENCE else None
        for start in range(0, golden.samples, BATCH):
            part = slice(start, start + BATCH)
            yield Batch(
                inputs=[a[part] for a in inputs],
                expected=[golden.outputs[REFERENCE][n][part] for n in names],
                labels=None if golden.labels is None else golden.labels[part],
                own=None if own is None else [own[n][part] for n in names],
            )

    return Trial(f"{golden.samples} golden inputs", "torch", golden.samples, batches)


def _data_trial(bundle: Bundle, data: Dataset, reference: Reference | None, here: _Here) -> Trial:
    inputs = bundle.manifest.inputs
    if len(inputs) != 1 or tuple(inputs[0].shape[1:]) != tuple(data.input_shape):
        raise DataError(
            f"{data.name} holds images of {'x'.join(map(str, data.input_shape))},"
            f" the model takes {' and '.join('x'.join(map(str, i.shape[1:])) for i in inputs)}",
            hint="a data set of the model's input shape",
        )
    name = "torch"
    expected: list[list[Array]] | None = None
    if reference is None:
        name, expected = _artifact_reference(bundle, data, here)

    def batches(_precision: str) -> Iterator[Batch]:
        for i, (images, labels) in enumerate(data.batches(BATCH)):
            wanted = expected[i] if expected is not None else (reference([images]) if reference else [])
            yield Batch(inputs=[images], expected=wanted, labels=labels)

    return Trial(data.name, name, len(data), batches)


def _artifact_reference(bundle: Bundle, data: Dataset, here: _Here) -> tuple[str, list[list[Array]]]:
    """What the first fp32 artifact says, as the reference for a data set when there is no module to ask."""
    artifact = next((a for a in bundle.artifacts if a.precision == REFERENCE), None)
    if artifact is None:
        raise DataError("the bundle has no fp32 artifact to compare with", hint="give the torch model with --model")
    runtime = _runtimes_here(artifact, here.installed)[0]
    with here.host.start(time_limit=here.time_limit) as connection, _open(connection, artifact, runtime) as session:
        runner = Runner(bundle, artifact, session)
        return f"{artifact.path.name} on {runtime}", [runner.infer([images]) for images, _ in data.batches(BATCH)]
