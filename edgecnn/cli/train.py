"""``edgecnn train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import (
    NumberList,
    input_shapes,
    json_option,
    load_data,
    load_model,
    parse_shapes,
    prints_to_stderr,
)
from edgecnn.cli.state import common_options

if TYPE_CHECKING:
    from edgecnn.data.dataset import Dataset
    from edgecnn.training.fit import TrainingProgress, TrainingResult


@click.command("train")
@click.argument("model", metavar="MODEL")
@click.option(
    "--data", metavar="DATA", required=True, help="digits, scenes, npz:FILE, idx:IMAGES,LABELS or folder:DIR."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="File for the weights."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training part.  [default: 15]")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed; equal seeds give equal weights.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images per step.  [default: 64; scenes: 16]")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Highest rate of the schedule.  [default: 0.003; scenes: 0.01]",
)
@click.option(
    "--arg", "arguments", multiple=True, metavar="KEY=VALUE", help="Argument of the model's class; can be repeated."
)
@click.option(
    "--input-shape", "shapes", multiple=True, metavar="CxHxW", help="Shape of the input, if the model does not have it."
)
@click.option("--scale", type=float, help="Factor for raw values.")
@click.option("--mean", type=NumberList(), metavar="M[,M...]", help="Subtracted after scaling, per channel.")
@click.option("--std", type=NumberList(), metavar="S[,S...]", help="Divided by after --mean, per channel.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw held-out scenes and what the model finds in them, as PNG.",
)
@json_option
@common_options
def train_command(
    model: str, output: Path, arguments: tuple[str, ...], picture: Path | None, json_file: Path | None, **given: Any
) -> None:
    """Train MODEL, a zoo name or path/to/file.py:callable, on images and write its weights.

    A fifth of the images is held out: the model is not trained on it, and the printed scores are measured on it. On
    labelled images the score is the accuracy. On scenes it is F1, precision and recall of the centres that a detector
    finds (of the right class, within one cell), or the mean intersection over union of a net with a class for every
    pixel.

    \b
    Examples:
      edgecnn train conv_pool --data digits -o conv_pool.pt
      edgecnn train resnet8 --arg in_channels=1 --data digits --epochs 5 --seed 7 -o resnet8.safetensors
      edgecnn train fomo --data scenes --picture found.png -o fomo.pt
      edgecnn train my_net.py:Net --input-shape 3x64x64 --data folder:photos -o net.pt
    """
    from edgecnn.training.fit import check_weights_path, save_weights

    check_weights_path(output)
    if picture is not None:
        from edgecnn.training.pictures import check_picture

        check_picture(picture)
    with prints_to_stderr():
        module, result, parts = _train(model, arguments, given, pictured=picture is not None)
        save_weights(module, output)
        if picture is not None:
            _draw(picture, module, parts[1])
    _print(output, result, [f"{d.name}: {d.note}" if d.note else d.name for d in parts], picture, json_file=json_file)


def _train(
    model: str, arguments: tuple[str, ...], given: dict[str, Any], *, pictured: bool
) -> tuple[Any, TrainingResult, list[Dataset]]:
    from edgecnn.cli.output import progress_bar
    from edgecnn.training.fit import train_model

    loaded = load_model(model, None, arguments, seed=given["seed"])
    shapes = input_shapes(loaded, parse_shapes(given["shapes"])) if given["shapes"] or loaded.input_shapes else None
    how = {key: given[key] for key in ("scale", "mean", "std")}
    parts = [load_data(given["data"], shapes, split=part, **how) for part in ("train", "test")]
    if pictured:
        from edgecnn.training.pictures import check_drawable

        check_drawable(parts[1])
    options = {key: given[key] for key in ("epochs", "batch_size", "learning_rate") if given[key] is not None}
    with progress_bar("training") as bar:

        def show(p: TrainingProgress) -> None:
            text = f"epoch {p.epoch}/{p.epochs}, loss {p.loss:.3f}"
            bar(text, (p.epoch - 1) * p.steps + p.step, p.epochs * p.steps)

        result = train_model(loaded.module, *parts, seed=given["seed"], progress=show, **options)
    return loaded.module, result, parts


def _draw(path: Path, module: Any, data: Dataset) -> None:
    from edgecnn.training.fit import predict
    from edgecnn.training.pictures import SCENES, draw
    from edgecnn.training.tasks import task_of

    places = data.spread(SCENES)
    outputs = predict(module, data, places)
    draw(path, data, outputs, places.tolist(), task_of(data, outputs.shape))


def _print(
    output: Path, result: TrainingResult, notes: list[str], picture: Path | None, *, json_file: Path | None
) -> None:
    from edgecnn.training.tasks import score_text

    history = [{"epoch": e.number, "loss": e.loss, **e.scores} for e in result.history]
    drawn = {} if picture is None else {"picture": str(picture)}
    value = {"schema": 1, "weights": str(output), **result.scores, "data": notes, **drawn, "history": history}
    if put_json(json_file, value):
        return
    for note in notes:
        click.echo(f"data: {note}", err=True)
    for e in result.history:
        click.echo(f"epoch {e.number:>3}  loss {e.loss:.4f}  held-out {score_text(e.scores)}")
    click.echo(f"{output}: {score_text(result.scores)} on held-out images")
