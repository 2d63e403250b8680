"""``edgecnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.files import STDOUT, put_json
from edgecnn.cli.options import (
    MODEL_HELP,
    Names,
    data_choice,
    data_options,
    json_option,
    model_options,
    parse_shapes,
    prints_to_stderr,
)
from edgecnn.cli.state import common_options
from edgecnn.export.formats import FORMATS, PRECISIONS

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle
    from edgecnn.exporting.request import ExportRequest


@click.command("export", epilog=MODEL_HELP)
@click.argument("model", metavar="MODEL")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The bundle.")
@model_options
@data_options
@click.option("--formats", type=Names(), default=FORMATS, help=f"Of {','.join(FORMATS)}.  [default: all]")
@click.option("--precisions", type=Names(), default=("fp32",), help=f"Of {','.join(PRECISIONS)}.  [default: fp32]")
@click.option("--recipe", help="int8, int8-portable, int8-7bit, int8-per-channel, or a TOML file.  [default: int8]")
@click.option("--calibration", type=click.Choice(["random"]), help="Calibrate without data: to try the mechanics only.")
@click.option("--calibration-samples", type=click.IntRange(min=1), help="Samples for int8 ranges.  [default: 256]")
@click.option(
    "--io",
    type=click.Choice(["float32", "int8", "uint8"]),
    default="float32",
    show_default=True,
    help="Inputs and outputs of int8 files; uint8 takes the raw image's bytes.",
)
@click.option("--c-array", is_flag=True, help="Write the int8 TFLite file as C source too, for microcontrollers.")
@click.option("--name", help="Name that the files bear; by default the model's.")
@click.option("--opset", type=click.IntRange(min=1), help="ONNX opset.  [default: 17]")
@click.option("--force", is_flag=True, help="Replace DIR even if it holds something else than a bundle.")
@click.option("--check/--no-check", default=True, help="Check the artifacts on the runtimes installed here.")
@json_option
@common_options
def export_command(
    model: str, output: Path, weights: Path | None, name: str | None, check: bool, json_file: Path | None, **given: Any
) -> int:
    """Export MODEL to ONNX and TFLite, and check both against torch.

    DIR becomes a bundle: NAME.fp32.onnx, NAME.fp32.tflite, manifest.json, golden.npz with inputs and the torch
    model's outputs, so that a device can check itself, and program.npz, by which failures are located.

    \b
    Examples:
      edgecnn export lenet5 --weights lenet5.pt --data digits -o build/lenet5
      edgecnn export my_net.py:Net --arg width=16 --input-shape 3x64x64 -o build/net
      edgecnn export my_package.nets:make_net --weights net.safetensors --data folder:photos -o build/net
      edgecnn export program.pt2 --formats tflite -o build/program
    """
    from edgecnn.cli.output import progress_bar
    from edgecnn.exporting.request import export_request, refuse_idle_options

    # What can be refused without torch is refused before it is loaded.
    request = _request(model, weights, name, given)
    refuse_idle_options(request)
    with prints_to_stderr(), progress_bar("calibrating") as bar:
        done = export_request(request, output, progress=bar)
    bundle, reference_notes = done.bundle, list(done.notes)
    report = None
    if check:
        from edgecnn.checking.check import check_bundle

        with progress_bar("checking") as progress:
            report = check_bundle(bundle, progress=progress)
    _print(bundle, reference_notes, report, json_file=json_file)
    return 0 if report is None else report.exit_code


def _request(model: str, weights: Path | None, name: str | None, given: dict[str, Any]) -> ExportRequest:
    from edgecnn.export.formats import check_choice
    from edgecnn.exporting.request import ExportRequest
    from edgecnn.loading import parse_argument

    options = ("calibration", "calibration_samples", "recipe", "io", "c_array", "opset", "force")
    return ExportRequest(
        model=model,
        weights=weights,
        arguments=dict(parse_argument(a) for a in given["arguments"]),
        shapes=parse_shapes(given["shapes"]),
        data=data_choice(given),
        name=name,
        formats=check_choice("--formats", given["formats"], FORMATS),
        precisions=check_choice("--precisions", given["precisions"], PRECISIONS),
        **{key: given[key] for key in options},
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
