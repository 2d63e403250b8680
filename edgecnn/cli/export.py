"""``edgecnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import (
    MODEL_HELP,
    Names,
    data_options,
    input_shapes,
    json_option,
    load_data,
    load_model,
    model_options,
    prints_to_stderr,
    refuse_without_data,
)
from edgecnn.cli.state import common_options
from edgecnn.formats import FORMATS, PRECISIONS

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle, Source
    from edgecnn.data.dataset import Dataset
    from edgecnn.samples import Calibration


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
    model: str, output: Path, weights: Path | None, name: str | None, check: bool, as_json: bool, **given: Any
) -> int:
    """Export MODEL to ONNX and TFLite, and check both against torch.

    DIR becomes a bundle: NAME.fp32.onnx, NAME.fp32.tflite, manifest.json, and golden.npz with inputs and the torch
    model's outputs, so that a device can check itself.

    \b
    Examples:
      edgecnn export lenet5 --weights lenet5.pt --data digits -o build/lenet5
      edgecnn export my_net.py:Net --arg width=16 --input-shape 3x64x64 -o build/net
      edgecnn export my_package.nets:make_net --weights net.safetensors --data folder:photos -o build/net
      edgecnn export program.pt2 --formats tflite -o build/program
    """
    bundle, reference_notes = _export(model, output, weights, name, given)
    report = None
    if check:
        from edgecnn.cli.output import progress_bar
        from edgecnn.parity.check import check_bundle

        with progress_bar("checking") as progress:
            report = check_bundle(bundle, progress=progress)
    _print(bundle, reference_notes, report, as_json=as_json)
    return 0 if report is None else report.exit_code


def _export(
    spec: str, output: Path, weights: Path | None, name: str | None, given: dict[str, Any]
) -> tuple[Bundle, list[str]]:
    from edgecnn.bundle import check_destination
    from edgecnn.formats import check_choice

    # What can be refused without torch is refused before it is loaded.
    formats = check_choice("--formats", given["formats"], FORMATS)
    precisions = check_choice("--precisions", given["precisions"], PRECISIONS)
    _refuse_idle(formats, precisions, given)
    check_destination(output, force=given["force"])

    from edgecnn.pipeline import check_name, export_model

    if name is not None:
        check_name(name)
    with prints_to_stderr():
        model = load_model(spec, weights, given["arguments"])
    data, shapes = data_and_shapes(model, given)
    from edgecnn.cli.output import progress_bar

    calibration = given["calibration"] if data is None else data_calibration(data, shapes, given)
    with prints_to_stderr(), progress_bar("calibrating") as progress:
        bundle = export_model(
            model.program or model.module,
            None if model.program else example_zeros(shapes),
            output,
            formats=formats,
            precisions=precisions,
            calibration=calibration,
            calibration_samples=given["calibration_samples"] if data is None else None,
            recipe=given["recipe"],
            io=given["io"],
            c_array=given["c_array"],
            name=name or model.name,
            opset=given["opset"] or 17,
            preprocessing=None if data is None else data.preprocessing,
            class_labels=() if data is None else data.class_names,
            source=_source(spec, weights, given["arguments"]),
            force=given["force"],
            progress=progress,
        )
    return bundle, [*model.notes, *([data.note] if data is not None and data.note else [])]


def _refuse_idle(formats: tuple[str, ...], precisions: tuple[str, ...], given: dict[str, Any]) -> None:
    """Refuse options that what is asked for makes no use of."""
    from edgecnn.errors import UsageError

    def refuse(options: dict[str, str], without: str, hint: str) -> None:
        idle = [flag for flag, key in options.items() if given[key] is not None]
        if idle:
            raise UsageError(f"{', '.join(idle)} {without} has no effect", hint=hint)

    ranges = {"--calibration": "calibration", "--calibration-samples": "calibration_samples"}
    if not {"int8", "int16x8"} & set(precisions):
        refuse(ranges, "without int8 or int16x8", "--precisions fp32,int8, or leave it out")
    if "int8" not in precisions:
        refuse({"--recipe": "recipe"}, "without int8", "--precisions fp32,int8, or leave it out")
    if given["data"] is not None:
        refuse({"--calibration": "calibration"}, "beside --data", "one of the two")
    if "onnx" not in formats:
        refuse({"--opset": "opset"}, "without ONNX", "--formats onnx,tflite, or leave it out")


def data_and_shapes(model: Any, given: dict[str, Any]) -> tuple[Dataset | None, tuple[tuple[int, ...], ...]]:
    """The data set that the options name, if any, and the shapes of the model's inputs."""
    how = {key: given[key] for key in ("split", "scale", "mean", "std")}
    if given["data"] is None:
        refuse_without_data(how)
        return None, input_shapes(model, given["shapes"])
    known = input_shapes(model, given["shapes"]) if given["shapes"] or model.input_shapes else None
    data = load_data(given["data"], known, **how)
    return data, known or (data.input_shape,)


def example_zeros(shapes: tuple[tuple[int, ...], ...]) -> tuple[Any, ...]:
    """Inputs to trace a model with."""
    import torch

    return tuple(torch.zeros(1, *shape) for shape in shapes)


def data_calibration(data: Dataset, shapes: tuple[tuple[int, ...], ...], given: dict[str, Any]) -> Calibration:
    """Golden inputs from the data as asked for; ranges from the training part where shipped data is asked for whole."""
    from edgecnn.data.shipped import SHIPPED
    from edgecnn.samples import BATCH, CALIBRATION, GOLDEN, Calibration, Samples

    places = data.spread(GOLDEN)
    labels = None if data.labels is None else data.labels[places]
    golden = Samples(inputs=(data.batch(places),), labels=labels, origin=data.name)
    source = data
    if given["data"] in SHIPPED and given["split"] is None:
        how = {key: given[key] for key in ("scale", "mean", "std")}
        source = load_data(given["data"], shapes, split="train", **how)
    used = source.take(source.spread(given["calibration_samples"] or CALIBRATION))
    return Calibration(
        batches=lambda: ((images,) for images, _ in used.batches(BATCH)),
        samples=len(used),
        origin=used.name,
        golden=golden,
    )


def _source(spec: str, weights: Path | None, arguments: tuple[str, ...]) -> Source:
    import hashlib

    from edgecnn.bundle import Source, WeightsFile
    from edgecnn.loading import parse_argument

    noted = {
        k: v if isinstance(v, str | int | float | bool | None) else repr(v) for k, v in map(parse_argument, arguments)
    }
    file = WeightsFile(file=weights.name, sha256=hashlib.sha256(weights.read_bytes()).hexdigest()) if weights else None
    return Source(model=spec, weights=file, arguments=noted)


def _print(bundle: Bundle, notes: list[str], report: Any, *, as_json: bool) -> None:
    from edgecnn.cli.output import print_bundle, print_json, print_report

    if as_json:
        artifacts = [
            {"path": str(a.path), "format": a.format, "precision": a.precision, "bytes": a.bytes, "sha256": a.sha256,
             "operators": dict(a.operators), "notes": list(a.spec.notes)}
            for a in bundle.artifacts
        ]  # fmt: skip
        check = None if report is None else report.as_json()
        print_json(
            {"schema": 1, "bundle": str(bundle.directory), "notes": notes, "artifacts": artifacts, "check": check}
        )
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    shapes = " and ".join("x".join(map(str, i.shape[1:])) for i in bundle.manifest.inputs)
    click.echo(f"{bundle.directory}: {bundle.manifest.name}, input {shapes}")
    print_bundle(bundle)
    if report is not None:
        click.echo()
        print_report(report)
