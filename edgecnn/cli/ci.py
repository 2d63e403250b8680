"""``edgecnn ci``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.reports import Reports, report_options
from edgecnn.cli.shared_options import prints_to_stderr
from edgecnn.cli.state import common_options
from edgecnn.errors import EdgecnnError, UsageError

if TYPE_CHECKING:
    from edgecnn.project.model_plan import ModelPlan, Project
    from edgecnn.project.run_project import ProjectReport
    from edgecnn.report.github import SourceLine
    from edgecnn.report.outcome import Outcome


@click.command("ci")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Project file.  [default: the nearest edgecnn.toml, here or above]",
)
@click.option("--only", multiple=True, metavar="NAME", help="Run this model only; can be repeated.")
@click.option("--dry-run", is_flag=True, help="Show what would run, and where; run nothing.")
@click.option("--save-baselines", is_flag=True, help="Write new baselines instead of comparing with any.")
@report_options
@common_options
def ci_command(config: Path | None, only: tuple[str, ...], dry_run: bool, save_baselines: bool, **given: Any) -> int:
    """Run edgecnn.toml: export every model, check it on every target, hold it to its budgets.

    After a failure the rest still runs; the table at the end shows everything, and the reports are always written. On
    GitHub, failures become annotations, and the summary is on the job's page. docs/ci.md has the keys of the file;
    `edgecnn init` writes one.

    edgecnn.toml names code that runs: use that of a project you trust.

    Exits 1 if an artifact is wrong, over a budget or slower than its baseline allows, and 2 if nothing is but
    something could not be judged.

    \b
    Examples:
      edgecnn ci
      edgecnn ci --dry-run
      edgecnn ci --only conv_pool --json ci.json --junit junit.xml --markdown summary.md
      edgecnn ci --save-baselines
    """
    reports = Reports("edgecnn ci", given)
    if dry_run and (reports.asked_for or save_baselines):
        given_options = [*reports.asked_for, *(["--save-baselines"] if save_baselines else [])]
        raise UsageError(
            f"{', '.join(given_options)} with --dry-run has no effect", why="nothing runs", hint="one of the two"
        )
    if dry_run:
        project, plans = _read(config, only)
        _print_plans(project, plans)
        return 0
    try:
        project, plans = _read(config, only)
        _check_baselines(project, plans, save_baselines=save_baselines)
    except EdgecnnError as error:
        _publish_error(reports, error)
        raise
    report = _run(plans, whole=plans == project.models, save_baselines=save_baselines)
    if reports.prints_text:
        _print(report)
    reports.publish(report.outcomes, report.as_json(), notes=report.notes, places=_places(project, plans))
    return report.exit_code


def _read(config: Path | None, only: tuple[str, ...]) -> tuple[Project, tuple[ModelPlan, ...]]:
    from edgecnn.project.model_plan import FILE, find_project
    from edgecnn.project.reading import load_project

    path = config or find_project()
    if path is None:
        raise UsageError(f"there is no {FILE} here or above", hint="edgecnn init, or --config FILE")
    project = load_project(path)
    if not project.models:
        raise UsageError(f"{path.name} names no model", where=str(path), hint='[model.my_net]\nmodel = "my_net.py:Net"')
    return project, project.only(only)


def _check_baselines(project: Project, plans: tuple[ModelPlan, ...], *, save_baselines: bool) -> None:
    if save_baselines and not any(plan.baseline or plan.gates.baseline for plan in plans):
        hint = '[baselines]\ncheck = "baselines"'
        raise UsageError("no baseline is asked for", where=str(project.path), hint=hint)


def _run(plans: tuple[ModelPlan, ...], *, whole: bool, save_baselines: bool) -> ProjectReport:
    from edgecnn.cli.output import progress_bar
    from edgecnn.project.run_project import run_project

    with prints_to_stderr(), progress_bar("running") as progress:
        return run_project(plans, whole=whole, save_baselines=save_baselines, progress=progress)


def _places(project: Project, plans: tuple[ModelPlan, ...]) -> dict[str, SourceLine]:
    """The places that annotations point to: each model's table, by its path in the repository."""
    from edgecnn.project.model_plan import FILE
    from edgecnn.report.github import SourceLine

    file = _in_repository(project.path)
    return {FILE: SourceLine(file), **{plan.name: SourceLine(file, plan.line) for plan in plans}}


def _in_repository(path: Path) -> str:
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    whole = path.resolve()
    return str(whole.relative_to(root)) if whole.is_relative_to(root) else path.name


def _publish_error(reports: Reports, error: EdgecnnError) -> None:
    """Write an error that prevents everything to the reports too, so that stale reports are overwritten."""
    from edgecnn.project.model_plan import FILE
    from edgecnn.project.run_project import ProjectReport
    from edgecnn.report.github import SourceLine
    from edgecnn.report.outcome import error_outcome

    report = ProjectReport(outcomes=(error_outcome(error, FILE, "read"),))
    line = re.fullmatch(r"(.+), line ([0-9]+)", error.where)
    places = {FILE: SourceLine(_in_repository(Path(line[1])), int(line[2]))} if line else None
    reports.publish(report.outcomes, report.as_json(), places=places)


def _print_plans(project: Project, plans: tuple[ModelPlan, ...]) -> None:
    from edgecnn.cli.output import print_table
    from edgecnn.project.describe import describe

    rows = describe(plans, project.path.resolve().parent)
    print_table([("model", "left"), ("step", "left"), ("", "left"), ("", "left")], rows)


def _print(report: ProjectReport) -> None:
    from edgecnn.cli.output import print_table
    from edgecnn.report.outcome import summary

    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    columns = [("model", "left"), ("step", "left"), ("artifact", "left"), ("target", "left"), ("item", "left")]
    columns += [("measured", "right"), ("limit", "right"), ("", "left")]
    print_table(columns, [_row(outcome) for outcome in report.outcomes])
    for outcome in (o for o in report.outcomes if o.bad):
        err = outcome.status == "error"
        click.echo(f"{outcome.status}: {outcome.step} of {outcome.name}: {outcome.message}", err=err)
        for line in outcome.details:
            click.echo(f"  {line}", err=err)
    click.echo(f"ci: {summary(report.outcomes)}")


def _row(o: Outcome) -> list[str]:
    from edgecnn.report.outcome import number, sized

    measured = number(o.value) if o.value is not None or o.size is None else sized(o.size)
    status = o.status.upper() if o.bad else o.status
    return [o.model, o.step, o.artifact, o.target, o.what, measured, number(o.limit), status]
