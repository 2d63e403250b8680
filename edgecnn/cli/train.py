"""``edgecnn train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import Numbers, input_shapes, json_option, load_data, load_model, prints_to_stderr
from edgecnn.cli.state import common_options

if TYPE_CHECKING:
    from edgecnn.training import Progress, TrainingResult


@click.command("train")
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="DATA", required=True, help="digits, npz:FILE, idx:IMAGES,LABELS or folder:DIR.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The weights.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training part.  [default: 15]")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same weights.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Peak rate of the schedule.")
@click.option("--arg", "arguments", multiple=True, metavar="KEY=VALUE", help="Argument of the model's class.")
@click.option("--input-shape", "shapes", multiple=True, metavar="CxHxW", help="Where the model does not say.")
@click.option("--scale", type=float, help="Factor for raw values.")
@click.option("--mean", type=Numbers(), metavar="M[,M...]", help="Subtracted after scaling, per channel.")
@click.option("--std", type=Numbers(), metavar="S[,S...]", help="Divided by after that, per channel.")
@json_option
@common_options
def train_command(model: str, output: Path, arguments: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Train MODEL, a zoo name or path/to/file.py:callable, on labelled images and write its weights.

    A fifth of each class is held out, never trained on, and gives the accuracy that is printed.

    \b
    Examples:
      edgecnn train conv_pool --data digits -o conv_pool.pt
      edgecnn train resnet8 --arg in_channels=1 --data digits --epochs 5 --seed 7 -o resnet8.safetensors
      edgecnn train my_net.py:Net --input-shape 3x64x64 --data folder:photos -o net.pt
    """
    from edgecnn.training import check_weights_path, save_weights

    check_weights_path(output)
    with prints_to_stderr():
        result, notes = _train(model, arguments, given)
    save_weights(result[0], output)
    _print(output, result[1], notes, as_json=as_json)


def _train(
    model: str, arguments: tuple[str, ...], given: dict[str, Any]
) -> tuple[tuple[Any, TrainingResult], list[str]]:
    from edgecnn.cli.output import progress_bar
    from edgecnn.training import train_model

    loaded = load_model(model, None, arguments, seed=given["seed"])
    shapes = input_shapes(loaded, given["shapes"]) if given["shapes"] or loaded.input_shapes else None
    how = {key: given[key] for key in ("scale", "mean", "std")}
    parts = [load_data(given["data"], shapes, split=part, **how) for part in ("train", "test")]
    options = {key: given[key] for key in ("epochs", "learning_rate") if given[key] is not None}
    with progress_bar("training") as bar:

        def show(p: Progress) -> None:
            text = f"epoch {p.epoch}/{p.epochs}, loss {p.loss:.3f}"
            bar(text, (p.epoch - 1) * p.steps + p.step, p.epochs * p.steps)

        result = train_model(
            loaded.module, *parts, seed=given["seed"], batch_size=given["batch_size"], progress=show, **options
        )
    return (loaded.module, result), [f"{d.name}: {d.note}" if d.note else d.name for d in parts]


def _print(output: Path, result: TrainingResult, notes: list[str], *, as_json: bool) -> None:
    from edgecnn.cli.output import print_json

    if as_json:
        history = [{"epoch": e.number, "loss": e.loss, "accuracy": e.accuracy} for e in result.history]
        print_json(
            {"schema": 1, "weights": str(output), "accuracy": result.accuracy, "data": notes, "history": history}
        )
        return
    for note in notes:
        click.echo(f"data: {note}", err=True)
    for e in result.history:
        click.echo(f"epoch {e.number:>3}  loss {e.loss:.4f}  held-out accuracy {e.accuracy:.2%}")
    click.echo(f"{output}: accuracy {result.accuracy:.2%} on held-out images")
