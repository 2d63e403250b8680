"""``edgecnn models``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import json_option
from edgecnn.cli.state import common_options


@click.command("models")
@json_option
@common_options
def models_command(json_file: Path | None) -> None:
    """List the zoo: the models that train, export and show accept by name.

    \b
    Examples:
      edgecnn models
      edgecnn models --json -
    """
    from edgecnn.cli.output import print_table
    from edgecnn.models import ZOO

    if put_json(json_file, {"schema": 1, "models": [asdict(entry) for entry in ZOO.values()]}):
        return
    columns = [("model", "left"), ("input", "left"), ("parameters", "right"), ("MACs", "right")]
    columns += [("trains on", "left"), ("source", "left"), ("", "left")]
    rows = [
        [e.name, "x".join(map(str, e.input_shape)), f"{e.parameters:,}", f"{e.macs:,}", e.data, e.source, e.summary]
        for e in ZOO.values()
    ]
    print_table(columns, rows)
