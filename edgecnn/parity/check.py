"""Every artifact of a bundle on every runtime that is here, against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.bundle import REFERENCE, Artifact, Bundle
from edgecnn.data.dataset import Dataset
from edgecnn.errors import DataError, TargetError
from edgecnn.parity.metrics import Difference
from edgecnn.targets.hosts.connection import Connection, Session
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.runtimes import runtimes_for

Array = npt.NDArray[Any]
Reference = Callable[[Sequence[Array]], Sequence[Array]]
Progress = Callable[[str, int, int], None]
"""Called with what runs, the samples done and the samples in all."""

FP32_LIMIT = 1e-5
"""Largest error of an fp32 artifact, as a share of the output's range."""
BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One output of one artifact on one runtime, over one set of samples.

    Attributes:
        artifact: The artifact's file name.
        runtime: The runtime's name.
        runtime_version: And its version.
        samples_from: What the samples are: the golden inputs, or a data set.
        reference: What they are compared with.
        output: The output's name.
        samples: How many samples.
        max_abs_error: Largest absolute difference.
        relative_error: The same as a share of the reference's range.
        limit: The largest relative error that passes.
        top1_agreement: Share of samples with the same best class; None where the output is no row of scores.
        accuracy: Share of samples with the right class; None without labels.
        reference_accuracy: The reference's.
        passed: The verdict.
        reason: Why it failed; empty where it passed.
    """

    artifact: str
    runtime: str
    runtime_version: str
    samples_from: str
    reference: str
    output: str
    samples: int
    max_abs_error: float
    relative_error: float
    limit: float
    top1_agreement: float | None
    accuracy: float | None
    reference_accuracy: float | None
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of a check, in the order of artifacts, runtimes and outputs."""

    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether there are verdicts, and all of them pass."""
        return bool(self.verdicts) and all(v.passed for v in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: schema, overall verdict, verdicts."""
        return {"schema": 1, "passed": self.passed, "verdicts": [asdict(v) for v in self.verdicts]}


@dataclass(frozen=True, slots=True)
class _Trial:
    """Samples with what the reference says to them; batches are made anew at each call."""

    name: str
    reference: str
    total: int
    batches: Callable[[], Iterator[tuple[Sequence[Array], Sequence[Array], Array | None]]]


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
        trials.append(_data_trial(bundle, data, reference, host, installed, time_limit))
    verdicts: list[Verdict] = []
    for artifact in bundle.artifacts:
        for runtime in _runtimes_here(artifact, installed):
            # A process for each: a runtime that crashes takes nothing with it.
            with host.start(time_limit=time_limit) as connection, _open(connection, artifact, runtime) as session:
                runner = _Runner(bundle, artifact, session)
                for trial in trials:
                    found = runner.run(trial, progress)
                    verdicts += [_verdict(artifact, runtime, session.version, trial, *f) for f in found]
    return CheckReport(tuple(verdicts))


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


class _Runner:
    """An artifact opened on a runtime, fed and read in the model's own layout."""

    def __init__(self, bundle: Bundle, artifact: Artifact, session: Session) -> None:
        self._manifest, self._artifact, self._session = bundle.manifest, artifact, session
        expected = (len(self._manifest.inputs), len(self._manifest.outputs))
        if (len(session.inputs), len(session.outputs)) != expected:
            raise TargetError(
                f"{artifact.path.name} has {len(session.inputs)} inputs and {len(session.outputs)} outputs,"
                f" its manifest says {expected[0]} and {expected[1]}",
                hint="export the model again",
            )

    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs (samples, ...) in the model's layout."""
        if not self._manifest.batch_resizable and len(inputs[0]) != 1:
            rows = [self.infer([a[i : i + 1] for a in inputs]) for i in range(len(inputs[0]))]
            return [np.concatenate(column) for column in zip(*rows, strict=True)]
        form = self._artifact.format
        stored = [
            np.ascontiguousarray(a.transpose(spec.axes[form]))
            for a, spec in zip(inputs, self._manifest.inputs, strict=True)
        ]
        outputs = self._session.infer(stored)
        return [
            o.transpose(np.argsort(spec.axes[form])) if o.ndim == len(spec.shape) else o
            for o, spec in zip(outputs, self._manifest.outputs, strict=True)
        ]

    def run(self, trial: _Trial, progress: Progress | None) -> Iterator[tuple[str, Difference, int | None, int | None]]:
        """For each output: its name, its difference, and with labels how many both sides got right."""
        names = [o.name for o in self._manifest.outputs]
        differences = [Difference() for _ in names]
        right = [[0, 0] for _ in names]
        labelled, done = False, 0
        for inputs, expected, labels in trial.batches():
            outputs = self.infer(inputs)
            for i, (output, wanted) in enumerate(zip(outputs, expected, strict=True)):
                self._add(differences[i], names[i], output, wanted)
                if labels is not None and output.ndim == 2 and i == 0:
                    if labels.max() >= output.shape[1]:
                        raise DataError(
                            f"{trial.name} has the label {labels.max()}, the model has {output.shape[1]} outputs",
                            hint="labels from 0 to one less than the model's outputs, or data without labels",
                        )
                    labelled = True
                    right[i][0] += int((output.argmax(1) == labels).sum())
                    right[i][1] += int((wanted.argmax(1) == labels).sum())
            done += len(inputs[0])
            if progress is not None:
                progress(f"{self._artifact.path.name}, {trial.name}", done, trial.total)
        for i, spec in enumerate(self._manifest.outputs):
            scores = labelled and i == 0 and len(spec.shape) == 2
            yield names[i], differences[i], *(right[i] if scores else (None, None))

    def _add(self, difference: Difference, name: str, output: Array, expected: Array) -> None:
        try:
            difference.add(output, expected)
        except ValueError as err:
            raise TargetError(
                f"{self._artifact.path.name} gives another {name} than its manifest says: {err}",
                hint="export the model again",
            ) from err


def _golden_trial(bundle: Bundle) -> _Trial:
    golden = bundle.golden()
    inputs = [golden.inputs[i.name] for i in bundle.manifest.inputs]
    outputs = [golden.outputs[REFERENCE][o.name] for o in bundle.manifest.outputs]

    def batches() -> Iterator[tuple[Sequence[Array], Sequence[Array], Array | None]]:
        for part in _parts(golden.samples):
            labels = None if golden.labels is None else golden.labels[part]
            yield [a[part] for a in inputs], [a[part] for a in outputs], labels

    return _Trial(f"{golden.samples} golden inputs", "torch", golden.samples, batches)


def _parts(total: int) -> Iterable[slice]:
    return (slice(i, i + BATCH) for i in range(0, total, BATCH))


def _data_trial(
    bundle: Bundle,
    data: Dataset,
    reference: Reference | None,
    host: LocalHost,
    installed: Mapping[str, str | None],
    time_limit: float,
) -> _Trial:
    inputs = bundle.manifest.inputs
    if len(inputs) != 1 or tuple(inputs[0].shape[1:]) != tuple(data.input_shape):
        raise DataError(
            f"{data.name} holds images of {'x'.join(map(str, data.input_shape))},"
            f" the model takes {[tuple(i.shape[1:]) for i in inputs]}",
            hint="a data set of the model's input shape",
        )
    name = "torch"
    expected: list[list[Array]] | None = None
    if reference is None:
        name, expected = _artifact_reference(bundle, data, host, installed, time_limit)

    def batches() -> Iterator[tuple[Sequence[Array], Sequence[Array], Array | None]]:
        for i, (images, labels) in enumerate(data.batches(BATCH)):
            wanted = expected[i] if expected is not None else (reference([images]) if reference else [])
            yield [images], wanted, labels

    return _Trial(data.name, name, len(data), batches)


def _artifact_reference(
    bundle: Bundle, data: Dataset, host: LocalHost, installed: Mapping[str, str | None], time_limit: float
) -> tuple[str, list[list[Array]]]:
    """What the first fp32 artifact says, as the reference for a data set when there is no module to ask."""
    artifact = next((a for a in bundle.artifacts if a.precision == REFERENCE), None)
    if artifact is None:
        raise DataError("the bundle has no fp32 artifact to compare with", hint="give the torch model with --model")
    runtime = _runtimes_here(artifact, installed)[0]
    with host.start(time_limit=time_limit) as connection, _open(connection, artifact, runtime) as session:
        runner = _Runner(bundle, artifact, session)
        return f"{artifact.path.name} on {runtime}", [runner.infer([images]) for images, _ in data.batches(BATCH)]


def _verdict(
    artifact: Artifact,
    runtime: str,
    version: str,
    trial: _Trial,
    output: str,
    found: Difference,
    right: int | None,
    reference_right: int | None,
) -> Verdict:
    relative, n = found.relative, found.samples
    if not n:
        reason = "there were no samples to compare"
    elif found.nans:
        reason = f"{found.nans} values are NaN or infinite"
    elif not relative <= FP32_LIMIT:
        reason = f"the error is {relative:.1e} of the range, the limit is {FP32_LIMIT:.0e}"
    else:
        reason = ""
    return Verdict(
        artifact=artifact.path.name,
        runtime=runtime,
        runtime_version=version,
        samples_from=trial.name,
        reference=trial.reference,
        output=output,
        samples=n,
        max_abs_error=found.max_abs,
        relative_error=relative,
        limit=FP32_LIMIT,
        top1_agreement=found.agreed / n if right is not None and n else None,
        accuracy=None if right is None or not n else right / n,
        reference_accuracy=None if reference_right is None or not n else reference_right / n,
        passed=not reason,
        reason=reason,
    )
