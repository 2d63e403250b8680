"""``edgecnn init``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.shared_options import MODEL_HELP, NameList, target_option
from edgecnn.cli.state import common_options
from edgecnn.errors import EdgecnnError, UsageError

if TYPE_CHECKING:
    from edgecnn.project.template import NewProject

WORKFLOW = Path(".github", "workflows", "edgecnn.yml")
ASKED = ("model", "weights", "input_shape", "data", "precisions", "name")


@click.command("init", epilog=MODEL_HELP)
@click.option("--model", metavar="MODEL", help="Model to export.")
@click.option("--weights", metavar="FILE", help="State dict of the model.")
@click.option("--input-shape", metavar="CxHxW", help="Shape of its input, if neither the model nor the data has it.")
@click.option("--data", metavar="DATA", help="digits, scenes, npz:FILE, idx:IMAGES,LABELS or folder:DIR.")
@click.option("--precisions", type=NameList(), help="Such as fp32,int8.")
@click.option("--name", help="Name that the files have.  [default: the model's name]")
@target_option
@click.option("--yes", is_flag=True, help="Ask nothing; use the defaults for options that are not given.")
@click.option("--github", is_flag=True, help="Print a GitHub Actions workflow for edgecnn.toml instead.")
@click.option("--write", is_flag=True, help=f"With --github: write {WORKFLOW} instead of printing it.")
@common_options
def init_command(targets: tuple[str, ...], yes: bool, github: bool, write: bool, **given: Any) -> None:
    """Write an edgecnn.toml for `edgecnn ci`, with a comment on each key, into the current folder.

    Asks for every value without an option. Never replaces an existing file.

    \b
    Examples:
      edgecnn init
      edgecnn init --model my_net.py:Net --weights net.pt --data folder:photos --target litert --target @pi4 --yes
      edgecnn init --github
      edgecnn init --github --write
    """
    if write and not github:
        raise UsageError("--write without --github has no effect", hint="leave it out: edgecnn.toml is always written")
    if github:
        _workflow(targets, given, write=write)
        return
    from edgecnn.files import write_whole
    from edgecnn.project.model_plan import FILE
    from edgecnn.project.reading import parse_project
    from edgecnn.project.template import project_text

    path = Path(FILE)
    if path.exists():
        hint = "edit it; edgecnn ci --dry-run shows what it says"
        raise UsageError(f"{path} already exists", why="it is never replaced", hint=hint)
    text = project_text(_new_project(targets, given, yes=yes))
    try:
        parse_project(path, text)
    except UsageError as error:
        error.where = ""
        raise
    write_whole(path, text.encode(), new=True)
    click.echo(f"{path}: written; edgecnn ci --dry-run shows what it would run, edgecnn ci runs it")


def _workflow(targets: tuple[str, ...], given: dict[str, Any], *, write: bool) -> None:
    from edgecnn.files import write_whole
    from edgecnn.project.model_plan import find_project
    from edgecnn.project.reading import load_project
    from edgecnn.project.template import workflow_text
    from edgecnn.targets.config import load_config

    without_effect = [f"--{key.replace('_', '-')}" for key in ASKED if given[key] is not None]
    if without_effect:
        raise UsageError(f"{', '.join(without_effect)} with --github has no effect", hint="edgecnn init, then --github")
    path = find_project()
    if path is not None and not targets:
        plans = load_project(path).models
        targets = tuple(t for plan in plans for t in (*(plan.targets or ()), *(plan.gates.targets or ())))
    text = workflow_text(targets, load_config())
    if write:
        write_whole(WORKFLOW, text.encode(), new=True)
        click.echo(f"{WORKFLOW}: runs edgecnn ci on every push and pull request")
    else:
        click.echo(text, nl=False)


def _new_project(targets: tuple[str, ...], given: dict[str, Any], *, yes: bool) -> NewProject:
    from edgecnn.loading.user_files import file_name
    from edgecnn.models import ZOO
    from edgecnn.project.template import NewProject

    def ask(key: str, question: str, default: str, check: Callable[[str], None] | None = None) -> str:
        if given[key] is not None:
            return str(given[key])
        if yes:
            return default
        return _ask(question, default, check)

    model = ask("model", "Model (a zoo name, file.py:callable, package.module:callable, file.pt2)", "", _check_model)
    if not model:
        raise UsageError("there is no model", hint="--model my_net.py:Net, or a zoo name: edgecnn models")
    _check_model(model)
    weights = ask("weights", "Weights (.pt, .pth or .safetensors; empty for none)", "")
    data = ask("data", "Data (- for none)", ZOO[model].data if model in ZOO else "")
    data = "" if data == "-" else data
    shape = ask("input_shape", "Input shape (CxHxW; empty if the model or the data has it)", "")
    usual = "fp32,int8" if data else "fp32"
    precisions = given["precisions"] or tuple(re.split(r"[,\s]+", usual if yes else _ask("Precisions", usual, None)))
    if not targets and not yes:
        text = _ask("Targets (with spaces; empty for the runtimes installed here)", "", _check_targets)
        targets = tuple(text.split())
    stem = Path(model).stem if model.endswith(".pt2") else model.rpartition(":")[2]
    name = given["name"] or file_name(stem)
    return NewProject(
        name=name, model=model, weights=weights, shape=shape, data=data, precisions=precisions, targets=targets
    )


def _ask(question: str, default: str, check: Callable[[str], None] | None) -> str:
    """An answer of the user. Asks on standard error, and again after an invalid answer."""

    def read(text: str) -> str:
        try:
            if check is not None and text:
                check(text)
        except EdgecnnError as error:
            raise click.UsageError(f"{error.message} ({error.hint})") from error
        return text.strip()

    try:
        return str(click.prompt(question, default=default, show_default=bool(default), err=True, value_proc=read))
    except click.Abort as stop:
        raise UsageError(
            f"no answer to: {question}", hint="--yes and options answer the questions in advance"
        ) from stop


def _check_model(text: str) -> None:
    from edgecnn.errors import near
    from edgecnn.models import ZOO

    if text not in ZOO and ":" not in text and not text.endswith(".pt2"):
        raise UsageError(f"{text!r} is not a model", hint=f"{near(text, ZOO)}, my_net.py:Net, or program.pt2")


def _check_targets(text: str) -> None:
    from edgecnn.targets.names import parse_target

    for target in text.split():
        parse_target(target)
