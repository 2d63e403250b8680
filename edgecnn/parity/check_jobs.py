"""Which artifacts run on which targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for
from edgecnn.targets.target import Found, Target, find_targets, installed_targets


@dataclass(frozen=True, slots=True, eq=False)
class CheckJob:
    """One artifact to check on one target."""

    artifact: Artifact
    target: Target


def targets_for(bundle: Bundle, targets: Sequence[Target | str] | None, time_limit: float | None) -> Found:
    """The requested targets, or by default the runtimes installed with edgecnn, which then must run every artifact.

    Raises:
        UsageError: if a target's name is wrong.
        TargetError: if no targets were given and no runtime on this machine runs an artifact.
    """
    found = requested_targets(targets, time_limit)
    if targets is None:
        for artifact in bundle.artifacts:
            _check_runs_here(artifact, found.targets)
    return found


def requested_targets(targets: Sequence[Target | str] | None, time_limit: float | None) -> Found:
    """The requested targets, or by default the runtimes installed with edgecnn.

    Raises:
        UsageError: if no target is given, or a target's name is wrong.
    """
    if targets is None:
        return Found(targets=tuple(installed_targets(time_limit=time_limit)))
    if not targets:
        raise UsageError("no target is given", hint="litert, onnxruntime@pi4, ...")
    return find_given(targets, time_limit)


def find_given(targets: Sequence[Target | str], time_limit: float | None) -> Found:
    """Targets as they are given, those first that are not names but targets.

    Raises:
        UsageError: if a name is wrong.
    """
    names = [t for t in targets if isinstance(t, str)]
    found = find_targets(names, time_limit=time_limit) if names else Found(targets=())
    return replace(found, targets=(*(t for t in targets if isinstance(t, Target)), *found.targets))


def _check_runs_here(artifact: Artifact, here: Sequence[Target]) -> None:
    rows = runtimes_for(artifact.format)
    if rows and not {row.name for row in rows} & {target.runtime for target in here}:
        raise TargetError(
            f"no runtime on this machine runs {artifact.path.name}",
            hint=f"python -m pip install {rows[0].distribution}\nor run it elsewhere: --target (edgecnn targets)",
        )


def jobs_of(bundle: Bundle, targets: Sequence[Target]) -> tuple[list[CheckJob], list[str]]:
    """The jobs, artifact by artifact, and notes on artifacts that a runtime cannot run, with the reason."""
    for target in targets:
        _check_has_work(bundle, target)
    jobs, notes = [], []
    for artifact in bundle.artifacts:
        for target in targets:
            row = RUNTIMES[target.runtime]
            if artifact.format not in row.formats:
                continue  # C source is skipped too: it contains the int8 TFLite file, which is checked itself
            if artifact.precision in row.lacks:
                notes.append(f"{artifact.path.name} is skipped on {target.name}: {row.lacks[artifact.precision]}")
            else:
                jobs.append(CheckJob(artifact, target))
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
