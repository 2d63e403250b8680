"""Export, check and measure every model of a project, and keep all that came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgecnn.errors import EdgecnnError
from edgecnn.project.gates import measure
from edgecnn.project.project import ModelPlan
from edgecnn.report.outcome import Outcome, check_outcomes, error_outcome, exit_code

if TYPE_CHECKING:
    from edgecnn.exporting import Exported
    from edgecnn.parity.verdict import CheckReport, Verdict

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectReport:
    """What came of a project.

    Attributes:
        outcomes: Of everything, by models, and for each in the order of export, check, bench.
        verdicts: Of the checks, each with the name of its model.
        notes: What was passed over, and why.
    """

    outcomes: tuple[Outcome, ...]
    verdicts: tuple[tuple[str, Verdict], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 good, 1 something is wrong or costs too much, 2 nothing is, but something could not be judged."""
        return exit_code(self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; `edgecnn.report.schema.ci_schema` describes it."""
        from edgecnn.report.documents import verdict_json, without_unknown

        return {
            "schema": 1,
            "passed": self.exit_code == 0,
            "verdicts": [{"model": model, **verdict_json(v)} for model, v in self.verdicts],
            "outcomes": [without_unknown(asdict(o)) for o in self.outcomes],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Gathered:
    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_project(
    plans: Sequence[ModelPlan], *, save_baselines: bool = False, progress: Progress | None = None
) -> ProjectReport:
    """Run all of it. What fails is kept, and keeps nothing else from running.

    Args:
        plans: The models.
        save_baselines: Write what is found as the new baselines, and compare with none.
        progress: Told what runs, how much of it is done, and of how much.
    """
    found = _Gathered()
    for plan in plans:
        _run(plan, found, save_baselines=save_baselines, progress=progress)
    return ProjectReport(
        outcomes=tuple(found.outcomes), verdicts=tuple(found.verdicts), notes=tuple(dict.fromkeys(found.notes))
    )


def _run(plan: ModelPlan, found: _Gathered, *, save_baselines: bool, progress: Progress | None) -> None:
    exported = _export(plan, found, progress)
    if exported is None:
        steps = ["check", *(["bench"] if plan.gates.asked_for or plan.gates.budgets else [])]
        for step in steps:
            message = "there is no bundle, since the export failed"
            found.outcomes.append(Outcome(model=plan.name, step=step, status="skipped", message=message))
        return
    report = _check(plan, exported, found, progress)
    outcomes, notes = measure(plan, exported.bundle, report, save=save_baselines, progress=progress)
    found.outcomes += outcomes
    found.notes += [f"{plan.name}: {note}" for note in notes]


def _export(plan: ModelPlan, found: _Gathered, progress: Progress | None) -> Exported | None:
    from edgecnn.exporting import export_request

    try:
        exported = export_request(plan.request, plan.directory, progress=progress)
    except EdgecnnError as error:
        found.outcomes.append(error_outcome(error, plan.name, "export"))
        return None
    found.notes += [f"{plan.name}: {note}" for note in exported.notes]
    for artifact in exported.bundle.artifacts:
        name = artifact.path.name
        found.outcomes.append(Outcome(model=plan.name, step="export", artifact=name, size=artifact.bytes))
        found.notes += [f"{name}: {note}" for note in artifact.spec.notes]
    return exported


def _check(plan: ModelPlan, exported: Exported, found: _Gathered, progress: Progress | None) -> CheckReport | None:
    from edgecnn.parity.check import check_bundle

    bundle = exported.bundle
    try:
        report = check_bundle(
            bundle,
            targets=plan.targets,
            data=exported.data,
            reference=_reference(exported),
            time_limit=plan.time_limit,
            progress=progress,
        )
    except EdgecnnError as error:
        found.outcomes.append(error_outcome(error, plan.name, "check"))
        return None
    sizes = {a.path.name: a.bytes for a in bundle.artifacts}
    found.outcomes += check_outcomes(report, plan.name, sizes)
    found.verdicts += [(plan.name, verdict) for verdict in report.verdicts]
    found.notes += [f"{plan.name}: {note}" for note in report.notes]
    return report


def _reference(exported: Exported) -> Any:
    """The torch model itself; None where there is no data set to ask it about."""
    if exported.data is None:
        return None
    from edgecnn.capture.program import program_batch
    from edgecnn.capture.reference import TorchReference

    model = exported.model
    if model.program is not None:
        return TorchReference(model.program, program_batch(model.program))
    return TorchReference(model.module, None if exported.bundle.manifest.batch_resizable else 1)
