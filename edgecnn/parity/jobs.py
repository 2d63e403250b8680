"""Which artifact runs on which target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for
from edgecnn.targets.target import Found, Target, find_targets, installed_targets


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """An artifact on a target."""

    artifact: Artifact
    target: Target


def find(bundle: Bundle, targets: Sequence[Target | str] | None, time_limit: float | None) -> Found:
    """Where to run: as named, or the runtimes beside edgecnn, which then must be able to run every artifact.

    Raises:
        UsageError: if a name is wrong.
        TargetError: if no runtime here runs an artifact.
    """
    if targets is None:
        here = installed_targets(time_limit=time_limit)
        for artifact in bundle.artifacts:
            _check_runs_here(artifact, here)
        return Found(targets=tuple(here))
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
            f"no runtime here runs {artifact.path.name}",
            hint=f"python -m pip install {rows[0].distribution}\nor --target for another place: edgecnn targets",
        )


def jobs_of(bundle: Bundle, targets: Sequence[Target]) -> tuple[list[Job], list[str]]:
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
                jobs.append(Job(artifact, target))
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
