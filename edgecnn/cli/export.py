"""``edgecnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.result_files import STDOUT, put_json
from edgecnn.cli.shared_options import (
    MODEL_HELP,
    data_choice,
    data_options,
    export_options,
    given_options,
    json_option,
    model_options,
    parse_shapes,
    prints_to_stderr,
)
from edgecnn.cli.state import common_options

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle
    from edgecnn.exporting.request import ExportRequest


@click.command("export", epilog=MODEL_HELP)
@click.argument("model", metavar="MODEL")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder for the bundle."
)
@model_options
@data_options
@export_options
@click.option("--name", help="Name that the files have.  [default: the model's name]")
@click.option("--force", is_flag=True, help="Replace DIR even if it is not a bundle.")
@click.option("--check/--no-check", default=True, help="Check the artifacts on the runtimes installed here.")
@json_option
@common_options
def export_command(
    model: str, output: Path, weights: Path | None, name: str | None, check: bool, json_file: Path | None, **given: Any
) -> int:
    """Export MODEL to ONNX and TFLite, and check both against torch.

    DIR becomes a bundle: NAME.fp32.onnx and NAME.fp32.tflite, manifest.json, golden.npz with inputs and the torch
    model's outputs, with which a device can check itself, and program.npz, with which failures are located.

    \b
    Examples:
      edgecnn export lenet5 --weights lenet5.pt --data digits -o build/lenet5
      edgecnn export my_net.py:Net --arg width=16 --input-shape 3x64x64 -o build/net
      edgecnn export my_package.nets:make_net --weights net.safetensors --data folder:photos -o build/net
      edgecnn export program.pt2 --formats tflite -o build/program
    """
    from edgecnn.cli.output import progress_bar
    from edgecnn.exporting.request import export_request

    request = _request(model, weights, name, given)
    with prints_to_stderr(), progress_bar("calibrating") as bar:
        done = export_request(request, output, progress=bar)
    bundle, reference_notes = done.bundle, list(done.notes)
    report = None
    if check:
        from edgecnn.checking.check import check_bundle

        with progress_bar("checking") as progress:
            report = check_bundle(bundle, progress=progress, locating=False)
    _print(bundle, reference_notes, report, json_file=json_file)
    return 0 if report is None else report.exit_code


def _request(model: str, weights: Path | None, name: str | None, given: dict[str, Any]) -> ExportRequest:
    from edgecnn.exporting.request import ExportRequest
    from edgecnn.loading import parse_argument

    return ExportRequest(
        model=model,
        weights=weights,
        arguments=dict(parse_argument(a) for a in given["arguments"]),
        shapes=parse_shapes(given["shapes"]),
        data=data_choice(given),
        name=name,
        options=given_options(given),
        force=given["force"],
    )


def _print(bundle: Bundle, notes: list[str], report: Any, *, json_file: Path | None) -> None:
    from edgecnn.cli.check_output import print_report
    from edgecnn.cli.output import print_bundle

    if json_file is not None:
        artifacts = [
            {"path": str(a.path), "format": a.format, "precision": a.precision, "bytes": a.bytes, "sha256": a.sha256,
             "operators": dict(a.operators), "notes": list(a.spec.notes)}
            for a in bundle.artifacts
        ]  # fmt: skip
        check = None if report is None else report.as_json()
        put_json(
            json_file,
            {"schema": 1, "bundle": str(bundle.directory), "notes": notes, "artifacts": artifacts, "check": check},
        )
    if json_file == STDOUT:
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    shapes = " and ".join("x".join(map(str, i.shape[1:])) for i in bundle.manifest.inputs)
    click.echo(f"{bundle.directory}: {bundle.manifest.name}, input {shapes}")
    print_bundle(bundle)
    if report is not None:
        click.echo()
        print_report(report)
