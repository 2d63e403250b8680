"""Export, check and measure every model of a project, and collect the outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgecnn.errors import EdgecnnError, UsageError
from edgecnn.parity.limits import idle_limit
from edgecnn.project.gates import measure
from edgecnn.project.model_plan import FILE, ModelPlan
from edgecnn.report.outcome import Outcome, check_outcomes, error_outcome, exit_code
from edgecnn.report.schema import CI_SCHEMA
from edgecnn.types import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from edgecnn.exporting.request import Exported
    from edgecnn.parity.baseline import Baseline
    from edgecnn.parity.verdict import CheckReport, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectReport:
    """The outcomes of a project.

    Attributes:
        outcomes: One for each thing that ran, by model, and for each model in the order of export, check, bench.
        verdicts: The verdicts of the checks, each with the name of its model.
        notes: What was skipped, and why.
    """

    outcomes: tuple[Outcome, ...]
    verdicts: tuple[tuple[str, Verdict], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 good; 1 something is wrong or over a budget; 2 nothing is, but something could not be judged."""
        return exit_code(self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """The value for ``--json``; `edgecnn.report.schema.ci_schema` describes it."""
        return {
            "schema": CI_SCHEMA,
            "passed": self.exit_code == 0,
            "verdicts": [{"model": model, **v.as_json()} for model, v in self.verdicts],
            "outcomes": [o.as_json() for o in self.outcomes],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Results:
    """What has come of the models so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unmeasured: list[set[tuple[str, str]]] = field(default_factory=list)


def run_project(
    plans: Sequence[ModelPlan], *, whole: bool = True, save_baselines: bool = False, progress: Progress | None = None
) -> ProjectReport:
    """Export, check and measure every model. A failure is recorded, and everything else still runs.

    Args:
        plans: The models.
        whole: Whether these are all models of the file. Then a common limit that no model was held to is an error,
            since it would pass forever.
        save_baselines: Write the results as new baselines instead of comparing with any.
        progress: Receives what runs, how much of it is done, and of how much.
    """
    found = _Results()
    for plan in plans:
        _run(plan, found, save_baselines=save_baselines, progress=progress)
    if (
        whole and found.unmeasured and len(found.unmeasured) == len(plans)
    ):  # a model that was not checked might have been held to it
        unmeasured = set.intersection(*found.unmeasured)
        keys = [key for key in plans[0].limits.values if key in unmeasured]
        found.outcomes += [error_outcome(idle_limit(*key), FILE, "check") for key in keys]
    return ProjectReport(
        outcomes=tuple(found.outcomes), verdicts=tuple(found.verdicts), notes=tuple(dict.fromkeys(found.notes))
    )


def _run(plan: ModelPlan, found: _Results, *, save_baselines: bool, progress: Progress | None) -> None:
    exported = _export(plan, found, progress)
    if exported is None:
        steps = ["check", *(["bench"] if plan.gates.asked_for or plan.gates.budgets else [])]
        for step in steps:
            message = "there is no bundle, since the export failed"
            found.outcomes.append(Outcome(model=plan.name, step=step, status="skipped", message=message))
        return
    report = _check(plan, exported, found, save=save_baselines, progress=progress)
    outcomes, notes = measure(plan, exported.bundle, report, save=save_baselines, progress=progress)
    found.outcomes += outcomes
    found.notes += [f"{plan.name}: {note}" for note in notes]


def _export(plan: ModelPlan, found: _Results, progress: Progress | None) -> Exported | None:
    from edgecnn.exporting.request import export_request

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


def _check(
    plan: ModelPlan, exported: Exported, found: _Results, *, save: bool, progress: Progress | None
) -> CheckReport | None:
    from edgecnn.checking.check import check_bundle

    bundle = exported.bundle
    try:
        baseline = None if save or plan.baseline is None else _baseline(plan.baseline)
        report = check_bundle(
            bundle,
            targets=plan.targets,
            data=exported.data,
            reference=_reference(exported),
            time_limit=plan.time_limit,
            progress=progress,
            limits=plan.limits,
            baseline=baseline,
        )
        if save and plan.baseline is not None:
            found.notes += _save_baseline(report, plan.baseline)
    except EdgecnnError as error:
        found.outcomes.append(error_outcome(error, plan.name, "check"))
        return None
    if not report.unjudged:
        found.unmeasured.append(set(report.idle))
    sizes = {a.path.name: a.bytes for a in bundle.artifacts}
    found.outcomes += check_outcomes(report, plan.name, sizes)
    found.verdicts += [(plan.name, verdict) for verdict in report.verdicts]
    found.notes += [f"{plan.name}: {note}" for note in report.notes]
    unsure = [v for v in report.verdicts if v.outcome == "undecided" and v.passed]
    found.notes += [f"{v.artifact} on {v.target}, {v.samples_from}: undecided: {v.reason}" for v in unsure]
    return report


def _baseline(path: Path) -> Baseline:
    from edgecnn.parity.baseline import load_baseline

    if not path.exists():
        raise UsageError("there is no baseline yet", where=str(path), hint="edgecnn ci --save-baselines")
    return load_baseline(path)


def _save_baseline(report: CheckReport, path: Path) -> list[str]:
    from edgecnn.files import make_folder_of
    from edgecnn.parity.baseline import save_baseline

    if not report.passed:
        return [f"{path} is not written, since the check has not passed"]
    make_folder_of(path)
    save_baseline(report, path)
    return []


def _reference(exported: Exported) -> Any:
    """The torch model; None without a data set to compare it on."""
    if exported.data is None:
        return None
    from edgecnn.capture.reference import torch_reference

    model, manifest = exported.model, exported.bundle.manifest
    return torch_reference(model.program or model.module, batch_resizable=manifest.batch_resizable)
