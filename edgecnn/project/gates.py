"""Hold a model to its budgets and its baseline; measure it if they need that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from edgecnn.bench.budget import ITEMS, WHERE_MEASURED, OverBudget, ProjectBudget
from edgecnn.bench.regression import MAX_INSTRUCTIONS, MAX_SLOWDOWN, ResultChange, compare_records
from edgecnn.errors import EdgecnnError, UsageError
from edgecnn.files import make_folder_of
from edgecnn.project.model_plan import ModelPlan
from edgecnn.report.outcome import Outcome, error_outcome

if TYPE_CHECKING:
    from edgecnn.bench.measure_bundle import BenchReport
    from edgecnn.bench.records import Record, Result
    from edgecnn.bundle import Bundle
    from edgecnn.parity.verdict import CheckReport

SIZE = "size_kb"
OutcomesAndNotes = tuple[list[Outcome], list[str]]
"""Outcomes and notes."""


def measure(
    plan: ModelPlan,
    bundle: Bundle,
    checked: CheckReport | None,
    *,
    save: bool,
    progress: Callable[[str, int, int], None] | None,
) -> OutcomesAndNotes:
    """Hold a bundle to the budgets and the baseline of its plan.

    Args:
        plan: The plan of the model.
        bundle: The exported model.
        checked: The report of the check, which shows what runs where; None if there was no check.
        save: Write a new baseline instead of comparing with one.
        progress: Receives each round of measurements.
    """
    gates = plan.gates
    if not gates.measures:
        ran = [] if checked is None else [(v.artifact, v.target) for v in checked.verdicts]
        complete = checked is not None and not checked.unjudged
        return [*_sizes(plan, bundle, list(dict.fromkeys(ran)), complete=complete)], []
    try:
        report = _bench(plan, bundle, progress)
    except EdgecnnError as error:
        return [error_outcome(error, plan.name, "bench")], []
    outcomes = [*_failures(plan, report), *_invalid(plan, report)]
    outcomes += _budgets(plan, [r for r in report.results if r.error is None], complete=report.complete)
    measured = [(r.artifact, r.target) for r in report.results]
    outcomes += _sizes(plan, bundle, list(dict.fromkeys(measured)), complete=report.complete)
    notes = [*report.notes, *(f"{r.label}: {n}" for r in report.results for n in r.notes)]
    notes += [f"{r.label}: invalid: {i.reason}" for r in report.results for i in r.invalid_reasons]
    notes += [f"{w.subject}: {w.text}" for w in report.warnings]
    if gates.baseline is not None:
        try:
            outcomes += _against_baseline(plan, report.record, notes, save=save)
        except EdgecnnError as error:
            outcomes.append(error_outcome(error, plan.name, "bench"))
    if not outcomes:  # measured without budgets or a baseline
        outcomes = [_outcome(plan, result, "measured") for result in report.results]
    return outcomes, notes


def _bench(plan: ModelPlan, bundle: Bundle, progress: Callable[[str, int, int], None] | None) -> BenchReport:
    from edgecnn.bench.measure_bundle import bench_bundle
    from edgecnn.bench.warmup import BenchSettings

    options, usual = plan.gates.options, BenchSettings()
    limits = BenchSettings(
        processes=options.processes or usual.processes,
        seconds=options.time or usual.seconds,
        warmup=options.warmup or usual.warmup,
    )
    return bench_bundle(
        bundle,
        targets=plan.gates.targets or plan.targets,
        limits=limits,
        threads=options.threads or (),
        batches=options.batches or (1,),
        time_limit=plan.time_limit,
        progress=progress,
    )


def _failures(plan: ModelPlan, report: BenchReport) -> Iterator[Outcome]:
    """An error for everything that could not be measured."""
    for failure in report.failures:
        yield error_outcome(failure.error, plan.name, "bench", target=failure.target)
    for result in report.results:
        if result.error is not None:
            message, *rest = result.error.splitlines()
            lines = tuple(" ".join(line.split()) for line in rest)
            yield _outcome(plan, result, "", status="error", message=message, lines=lines)


def _invalid(plan: ModelPlan, report: BenchReport) -> Iterator[Outcome]:
    """A failure for each invalid result, if the plan is strict."""
    for result in report.results if plan.gates.options.strict else ():
        if result.error is None and not result.valid:
            reasons = "; ".join(f"{i.reason} ({i.hint})" for i in result.invalid_reasons)
            yield _outcome(plan, result, "valid", status="failed", message=f"the result is invalid: {reasons}")


def _budgets(plan: ModelPlan, results: Sequence[Result], *, complete: bool) -> Iterator[Outcome]:
    for budget in plan.gates.budgets:
        if budget.item == SIZE:
            continue
        costs = [(r, ITEMS[budget.item](r)) for r in results if fnmatchcase(r.target, budget.targets)]
        known = [(r, value) for r, value in costs if value is not None]
        for result, value in known:
            yield _cost(plan, budget, result.artifact, result.target, value, subject=_shape(result, budget.item))
        if not known and complete:
            yield _budget_without_effect(plan, budget, fits=bool(costs))


def _sizes(plan: ModelPlan, bundle: Bundle, ran: Sequence[tuple[str, str]], *, complete: bool) -> Iterator[Outcome]:
    """Hold file sizes to their budgets; a budget for all targets applies once to each file."""
    sizes = {a.path.name: a.bytes for a in bundle.artifacts}
    for budget in plan.gates.budgets:
        if budget.item != SIZE:
            continue
        places = [(name, "") for name in sizes] if budget.targets == "*" else ran
        fitting = [(name, target) for name, target in places if fnmatchcase(target, budget.targets)]
        for name, target in fitting:
            yield _cost(plan, budget, name, target, sizes[name] / 1000, subject=SIZE)
        if not fitting and complete:
            yield _budget_without_effect(plan, budget, fits=False)


def _cost(plan: ModelPlan, budget: ProjectBudget, artifact: str, target: str, value: float, *, subject: str) -> Outcome:
    place = f"{artifact} on {target}" if target else artifact
    over = OverBudget(subject=place, item=budget.item, value=value, limit=budget.limit)
    passed = value <= budget.limit
    return Outcome(
        model=plan.name,
        step="bench",
        artifact=artifact,
        target=target,
        subject=subject,
        metric=budget.item,
        value=value,
        limit=budget.limit,
        status="passed" if passed else "failed",
        message="" if passed else f"over budget: {over.words}",
    )


def _budget_without_effect(plan: ModelPlan, budget: ProjectBudget, *, fits: bool) -> Outcome:
    """An error for a budget that applies to nothing, since it would pass forever."""
    why = f"nothing that was measured has {budget.item}" if fits else f"no target matches {budget.targets}"
    error = UsageError(
        f'the budget {budget.item} of "{budget.targets}" applies to nothing',
        why=why,
        hint=WHERE_MEASURED if fits else "the name of one of the targets, or leave the budget out",
    )
    return error_outcome(error, plan.name, "bench", target=budget.targets)


def _against_baseline(plan: ModelPlan, record: Record, notes: list[str], *, save: bool) -> Iterable[Outcome]:
    from edgecnn.bench.records import load_record, save_record

    path, options = plan.gates.baseline, plan.gates.options
    assert path is not None
    if save:
        make_folder_of(path)
        save_record(record, path)
        return []
    if not path.exists():
        raise UsageError("there is no baseline yet", where=str(path), hint="edgecnn ci --save-baselines")
    comparison = compare_records(
        load_record(path),
        record,
        max_slowdown=options.max_slowdown or MAX_SLOWDOWN,
        max_instructions=options.max_instructions or MAX_INSTRUCTIONS,
        any_host=bool(options.any_host),
    )
    notes += [f"hosts differ: {line}" for line in comparison.differences]
    notes += [f"{c.label}: {doubt}" for c in comparison.changes for doubt in c.doubts]
    for when, labels in (("in the baseline", comparison.only_old), ("now", comparison.only_new)):
        notes += [f"{label}: only {when}" for label in labels]
    results = {r.label: r for r in record.results}
    return [_change(plan, change, results[change.label]) for change in comparison.changes]


def _change(plan: ModelPlan, change: ResultChange, result: Result) -> Outcome:
    least = change.ratio if change.low is None else change.low
    slower = f"{change.what} is {change.ratio:.3f} times the baseline's, at least {least:.3f}; limit {change.limit:g}"
    return _outcome(
        plan,
        result,
        f"{change.what} against the baseline",
        metric=f"{change.what}_ratio",
        value=change.ratio,
        limit=change.limit,
        status="failed" if change.failed else "passed",
        message=slower if change.failed else "",
    )


def _outcome(plan: ModelPlan, result: Result, subject: str, **more: object) -> Outcome:
    values = {"subject": _shape(result, subject), "size": result.bytes, **more}
    return Outcome(model=plan.name, step="bench", artifact=result.artifact, target=result.target, **values)  # type: ignore[arg-type]


def _shape(result: Result, subject: str) -> str:
    """The subject with threads and batch, which distinguish results of one artifact on one target."""
    parts = [subject, f"{result.threads} threads" if result.threads != 1 else ""]
    return ", ".join(part for part in (*parts, f"batch {result.batch}" if result.batch != 1 else "") if part)
