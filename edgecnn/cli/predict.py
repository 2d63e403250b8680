"""``edgecnn predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import json_option, target_option, time_limit_option
from edgecnn.cli.state import common_options

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle
    from edgecnn.errors import EdgecnnError
    from edgecnn.inference.predictions import Predictions
    from edgecnn.targets.target import Target


@click.command("predict")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@target_option
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes to show.")
@click.option("--precision", help="Precision of the artifact: fp32, int8, ...  [default: fp32, or the first one]")
@time_limit_option
@json_option
@common_options
def predict_command(
    bundle: Path,
    images: tuple[Path, ...],
    targets: tuple[str, ...],
    top: int,
    precision: str | None,
    time_limit: float | None,
    json_file: Path | None,
) -> int:
    """Classify images with BUNDLE: print the best classes and their scores.

    IMAGE is an image file of any size and format that Pillow reads, or an .npz or .npy file of raw images; it is
    preprocessed as the bundle's manifest says. Scores are the softmax of the model's outputs, unless those are
    probabilities already. Without --target, the first runtime installed here that runs the bundle is used.

    \b
    Examples:
      edgecnn predict build/conv_pool five.png
      edgecnn predict build/conv_pool photos/*.jpg --target litert@pi4 --precision int8 --top 1
    """
    from edgecnn.bundle import load_bundle
    from edgecnn.cli.output import print_error
    from edgecnn.errors import TargetError
    from edgecnn.inference.predictions import check_precision, load_images, predict

    loaded = load_bundle(bundle)
    check_precision(loaded, precision)
    prepared = load_images(loaded, images)
    chosen, failed = _targets(loaded, targets, time_limit, precision)
    results: list[Predictions] = []
    for target in chosen:
        try:
            results.append(predict(loaded, prepared, target, top=top, precision=precision))
        except TargetError as error:
            failed.append((target.name, error))
    errors = [{"target": name, "message": problem.message} for name, problem in failed]
    value = {"schema": 1, "results": [r.as_json() for r in results], "errors": errors, "notes": list(prepared.notes)}
    if not put_json(json_file, value):
        for note in prepared.notes:
            click.echo(f"note: {note}", err=True)
        for result in results:
            _print(result)
    for name, problem in failed:
        print_error(name, problem)
    return 2 if failed else 0


def _targets(
    bundle: Bundle, names: tuple[str, ...], time_limit: float | None, precision: str | None
) -> tuple[list[Target], list[tuple[str, EdgecnnError]]]:
    """The targets whose runtime the bundle has files for, and the targets that failed."""
    from edgecnn.errors import TargetError, UsageError
    from edgecnn.inference.predictions import choose_artifact
    from edgecnn.targets.target import find_targets, installed_targets

    def fits(target: Target) -> bool:
        try:
            choose_artifact(bundle, target, precision)
        except UsageError:
            if target.asked_for:
                raise
            return False
        return True

    if not names:
        here = [target for target in installed_targets(time_limit=time_limit) if fits(target)]
        if not here:
            raise TargetError("no runtime here runs the bundle", hint="--target: edgecnn targets lists them")
        return here[:1], []
    found = find_targets(names, time_limit=time_limit)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    chosen = [target for target in found.targets if fits(target)]
    if not chosen and not found.failures:
        raise UsageError("the targets run none of the bundle's artifacts", hint="another --target or --precision")
    return chosen, [(failure.target, failure.error) for failure in found.failures]


def _print(result: Predictions) -> None:
    from edgecnn.cli.output import Column, print_table

    what = "the softmax of its outputs" if result.scores == "softmax" else "its outputs, which are probabilities"
    click.echo(f"{result.artifact} on {result.target} {result.version}; scores are {what}")
    width = max(len(p.best) for p in result.predictions)
    columns: list[Column] = [("image", "left")]
    for place in range(width):
        columns += [("class" if place == 0 else f"{place + 1}.", "left"), ("score", "right")]
    rows = [[p.image, *(cell for s in p.best for cell in (s.label, f"{s.score:.2%}"))] for p in result.predictions]
    print_table(columns, rows)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
