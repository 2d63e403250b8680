"""``edgecnn show``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import (
    MODEL_HELP,
    input_shapes,
    json_option,
    load_model,
    model_options,
    parse_shapes,
    prints_to_stderr,
)
from edgecnn.cli.state import common_options

if TYPE_CHECKING:
    from edgecnn.graph.analysis import Cost


@click.command("show", epilog=MODEL_HELP)
@click.argument("model", metavar="MODEL")
@model_options
@json_option
@common_options
def show_command(
    model: str, weights: Path | None, arguments: tuple[str, ...], shapes: tuple[str, ...], json_file: Path | None
) -> None:
    """Print the layers of MODEL as they are exported: batch norms folded, activations fused.

    For each layer: the output shape without the batch, parameters, multiply-accumulates, the receptive field in rows x
    columns of the input, and the output's size in float32. The peak is the most memory that outputs take at one time if
    each is freed after its last use.

    \b
    Examples:
      edgecnn show resnet8
      edgecnn show my_net.py:Net --input-shape 3x64x64
    """
    from edgecnn.exporting.capture_check import capture_model
    from edgecnn.graph.analysis import analyse

    with prints_to_stderr():
        loaded = load_model(model, weights, arguments)
        if loaded.program is None:
            import torch

            example = tuple(torch.zeros(1, *s) for s in input_shapes(loaded, parse_shapes(shapes)))
            graph, _ = capture_model(loaded.module, example)
        else:
            input_shapes(loaded, parse_shapes(shapes))
            graph, _ = capture_model(loaded.program, None)
    cost = analyse(graph)
    if not put_json(json_file, {"schema": 1, "model": model, **asdict(cost)}):
        _print(cost)


def _print(cost: Cost) -> None:
    from edgecnn.cli.output import print_table

    columns = [
        ("layer", "left"),
        ("operator", "left"),
        ("result", "left"),
        ("parameters", "right"),
        ("MACs", "right"),
        ("receptive field", "right"),
        ("bytes", "right"),
    ]
    rows = [
        [
            layer.name,
            layer.operator,
            "x".join(map(str, layer.shape)),
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
            "x".join(map(str, layer.receptive_field)),
            f"{layer.activation_bytes:,}",
        ]
        for layer in cost.layers
    ]
    print_table(columns, rows)
    click.echo(f"parameters {cost.parameters:,}, MACs {cost.macs:,}")
    click.echo(f"peak activation memory {cost.peak_bytes:,} bytes, at {cost.peak_layer or 'the input'}")
