"""Complete a check's report with the locations of its failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgecnn.bundle import Bundle, Program
from edgecnn.errors import EdgecnnError, TargetError
from edgecnn.locate.locate import locate
from edgecnn.locate.location import Location
from edgecnn.locate.quantization_loss import is_loss, with_costliest
from edgecnn.parity.verdict import CheckReport, Verdict
from edgecnn.targets.runtimes.refusals import NotOfferedError
from edgecnn.targets.target import Target, resolve_targets
from edgecnn.types import Progress

Pair = tuple[str, str]
"""Names of an artifact and a target."""


def locate_failures(
    bundle: Bundle,
    report: CheckReport,
    *,
    everything: bool = False,
    targets: Sequence[Target] = (),
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """The report with ``locations`` for what failed, and the layer and cause in its verdicts.

    Args:
        bundle: The bundle that was checked.
        report: The check's report.
        everything: Examine artifacts that passed, too.
        targets: Targets of the check that are open already; others are found by their names.
        time_limit: Seconds for one answer of a runtime; None for 60, on emulated boards 600.
        progress: Receives what is examined.
    """
    failed = {(v.artifact, v.target) for v in report.verdicts if not v.passed}
    # The runtime itself names an operator that it does not offer: nothing is left to locate.
    lost = [(u.artifact, u.target) for u in report.unjudged if u.artifact and not isinstance(u.error, NotOfferedError)]
    wanted = [(v.artifact, v.target) for v in report.verdicts if everything or not v.passed]
    pairs = list(dict.fromkeys(wanted + lost))
    if not pairs:
        return report
    try:
        program = bundle.program()
    except EdgecnnError as error:
        return replace(report, notes=(*report.notes, f"nothing was located: {error.message}"))
    known = {target.name: target for target in targets}
    found: dict[Pair, Location] = {}
    notes = []
    for i, (artifact, target) in enumerate(pairs):
        if progress is not None:
            progress(f"locating {artifact} on {target}", i, len(pairs))
        try:
            place = known[target] if target in known else _target(target, time_limit)
            bad = (artifact, target) in failed or (artifact, target) in lost
            own = [v for v in report.verdicts if (v.artifact, v.target) == (artifact, target)]
            found[artifact, target] = _located(bundle, artifact, place, program, failed=bad, loss=is_loss(own))
        except EdgecnnError as error:
            why = f" ({error.why})" if error.why else ""
            notes.append(f"{artifact} on {target} was not located: {error.message}{why}")
    return replace(
        report,
        verdicts=tuple(_completed(v, found.get((v.artifact, v.target))) for v in report.verdicts),
        locations=tuple(found.values()),
        notes=(*report.notes, *notes),
    )


def _target(name: str, time_limit: float | None) -> Target:
    return resolve_targets([name], time_limit=time_limit)[0]


def _located(bundle: Bundle, name: str, target: Target, program: Program, *, failed: bool, loss: bool) -> Location:
    artifact = next((a for a in bundle.artifacts if a.path.name == name), None)
    if artifact is None:
        raise TargetError(f"the bundle has no {name}")
    location = locate(bundle, artifact, target, program=program, failed=failed)
    return with_costliest(location, bundle, artifact, program) if loss else location


def _completed(verdict: Verdict, location: Location | None) -> Verdict:
    if verdict.passed or location is None:
        return verdict
    return replace(verdict, layer=location.layer, cause=location.summary)
