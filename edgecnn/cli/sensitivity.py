"""``edgecnn sensitivity``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import (
    MODEL_HELP,
    data_options,
    json_option,
    load_model,
    model_options,
    parse_shapes,
    prints_to_stderr,
)
from edgecnn.cli.state import common_options
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    from edgecnn.locate.quality import Quality
    from edgecnn.locate.sensitivity import Sensitivity
    from edgecnn.locate.suggest import Advice, Suggestion


@click.command("sensitivity", epilog=MODEL_HELP)
@click.argument("model", metavar="MODEL")
@model_options
@data_options
@click.option("--recipe", default="int8", show_default=True, help="Recipe to start from: a name, or a TOML file.")
@click.option("--calibration-samples", type=click.IntRange(min=1), help="Samples for int8 ranges.  [default: 256]")
@click.option(
    "--samples", type=click.IntRange(min=1), default=64, show_default=True, help="Number of samples to measure on."
)
@click.option(
    "--regain",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    help="Share of the quantization noise to remove.  [default: 0.75, which is 6 dB]",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the suggested recipe, a TOML file."
)
@json_option
@common_options
def sensitivity_command(
    model: str, weights: Path | None, output: Path | None, samples: int, json_file: Path | None, **given: Any
) -> None:
    """Rank the layers of MODEL by their loss in int8, and suggest which to leave in float.

    For each layer: the signal-to-noise ratio of the outputs with only this layer quantized, and with only this layer in
    float, and the accuracies if the data has labels. Then the fewest layers in float that regain the given share of the
    loss, found layer by layer and confirmed by quantizing and executing the whole model. Everything runs in edgecnn's
    integer reference, which the runtimes match; N layers take about 2 N executions of the samples.

    \b
    Examples:
      edgecnn sensitivity resnet8 --weights resnet8.pt --data digits
      edgecnn sensitivity my_net.py:Net --weights net.pt --data folder:photos --regain 0.9 -o mixed.toml
      edgecnn export my_net.py:Net --weights net.pt --data folder:photos --precisions int8 --recipe mixed.toml -o net
    """
    from edgecnn.cli.output import progress_bar
    from edgecnn.locate.suggest import SHARE, advise
    from edgecnn.quantize.recipe import load_recipe
    from edgecnn.quantize.recipe_text import check_recipe_path, recipe_text, write_recipe

    if given["data"] is None:
        raise UsageError("sensitivity is measured on data, and no data is given", hint="--data DATA")
    if output is not None:
        check_recipe_path(output)
    recipe = load_recipe(given["recipe"])
    with prints_to_stderr(), progress_bar("quantizing") as progress:
        observed, calibration, data = _observed(model, weights, given, progress)
        used = data.take(data.spread(samples))
        advice = advise(
            observed,
            calibration,
            recipe,
            [used.batch(range(len(used)))],
            labels=used.labels,
            share=given["regain"] or SHARE,
            progress=progress,
        )
    found = advice.suggestion
    if output is not None:
        if found is None:
            raise UsageError("int8 loses nothing on these samples: no recipe is written", hint="more --samples")
        write_recipe(found.recipe, output, comments=[*_claims(advice, found), f"Measured on {used.name}."])
    if put_json(json_file, _as_json(model, used.name, advice, None if found is None else recipe_text(found.recipe))):
        return
    click.echo(f"{model}, {recipe.name}, on {used.name}")
    _print(advice)
    if found is not None:
        click.echo(f"{output}:" if output else "as a recipe (-o FILE writes it):")
        click.echo("\n".join(f"  {line}".rstrip() for line in recipe_text(found.recipe).splitlines()))


def _observed(model: str, weights: Path | None, given: dict[str, Any], progress: Any) -> Any:
    """The observed graph of the model, the calibration data, and the data set to measure on."""
    from edgecnn.exporting.capture_check import capture_model, reference_outputs
    from edgecnn.exporting.export_options import ExportOptions
    from edgecnn.exporting.request import DataChoice, ExportRequest, data_and_shapes, data_calibration, example_zeros
    from edgecnn.quantize.calibrated import observe_graph

    how = {key: given[key] for key in ("split", "scale", "mean", "std")}
    request = ExportRequest(
        model=model,
        shapes=parse_shapes(given["shapes"]),
        data=DataChoice(spec=given["data"], **how),
        options=ExportOptions(calibration_samples=given["calibration_samples"]),
    )
    loaded = load_model(model, weights, given["arguments"])
    data, shapes = data_and_shapes(loaded, request)
    assert data is not None
    if data.note:
        click.echo(f"note: {data.note}", err=True)
    for note in loaded.notes:
        click.echo(f"note: {note}", err=True)
    graph, reference = capture_model(loaded.program or loaded.module, None if loaded.program else example_zeros(shapes))
    calibration = data_calibration(data, shapes, request)
    reference_outputs(graph, reference, calibration.golden)
    return observe_graph(graph, calibration, given["recipe"], progress=progress), calibration, data


def _print(advice: Advice) -> None:
    from edgecnn.cli.output import Column, print_table

    found = advice.sensitivity
    scored = found.reference_accuracy is not None
    columns: list[Column] = [("layer", "left"), ("operators", "left"), ("MACs", "right")]
    columns += [("SNR, only it int8", "right"), *([("accuracy", "right")] if scored else [])]
    columns += [("SNR, only it float", "right"), *([("accuracy", "right")] if scored else []), ("regains", "right")]
    rows = []
    for row in found.rows:
        kinds, share = ", ".join(row.layer.operators), row.layer.macs / (found.macs or 1)
        cells = [row.layer.path, kinds, f"{share:.1%}", _snr(row.alone), *([_change(row.alone)] if scored else [])]
        rows.append([*cells, _snr(row.spared), *([_change(row.spared)] if scored else []), f"{row.regained:.1%}"])
    print_table(columns, rows)
    if scored:
        click.echo(f"accuracies are differences from float ({found.reference_accuracy:.2%}), with 95 % intervals")
    click.echo(f"all in int8: {_words(found.whole)}")
    click.echo(f"all in float, the inputs rounded to int8: {_words(found.floor)}")
    if advice.suggestion is None:
        click.echo("int8 loses nothing on these samples: there is nothing to suggest")
    else:
        click.echo("\n".join(_claims(advice, advice.suggestion)))
    click.echo(f"cost: {advice.programs} programs on {found.samples} samples, {advice.work:.0f} times the whole's work")


def _claims(advice: Advice, found: Suggestion) -> list[str]:
    """Sentences about the suggestion and its measured gain."""
    before = advice.sensitivity.whole
    return [
        f"left in float: {', '.join(layer.path for layer in found.layers)}: {found.macs:.1%} of the MACs",
        f"with these: {_words(found.quality)}, instead of {_words(before)}: {found.regained:.1%} of the noise is gone",
    ]


def _words(quality: Quality) -> str:
    return _snr(quality) + ("" if quality.change is None else f", accuracy {_change(quality)}")


def _snr(quality: Quality) -> str:
    return "exact" if not quality.noise else f"{quality.snr:.1f} dB"


def _change(quality: Quality) -> str:
    change = quality.change
    return "-" if change is None else f"{change.value:+.2%} [{change.low:+.1%}, {change.high:+.1%}]"


def _as_json(model: str, samples: str, advice: Advice, recipe: str | None) -> dict[str, Any]:
    found: Sensitivity = advice.sensitivity
    suggestion = advice.suggestion

    def quality(q: Quality) -> dict[str, Any]:
        return {"snr_db": q.snr, "noise": q.noise, "accuracy": q.accuracy, "change": q.change and asdict(q.change)}

    return {
        "schema": 1,
        "model": model,
        "data": samples,
        "samples": found.samples,
        "macs": found.macs,
        "reference_accuracy": found.reference_accuracy,
        "whole": quality(found.whole),
        "floor": quality(found.floor),
        "layers": [
            {
                **asdict(row.layer),
                "only_int8": quality(row.alone),
                "only_float": quality(row.spared),
                "regained": row.regained,
            }
            for row in found.rows
        ],
        "suggestion": None
        if suggestion is None
        else {
            "layers": [layer.path for layer in suggestion.layers],
            "quality": quality(suggestion.quality),
            "regained": suggestion.regained,
            "macs": suggestion.macs,
            "recipe": recipe,
        },
        "programs": advice.programs,
        "work": advice.work,
    }
