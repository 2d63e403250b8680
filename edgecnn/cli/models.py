"""``edgecnn models``."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgecnn.cli.options import json_option
from edgecnn.cli.state import common_options


@click.command("models")
@json_option
@common_options
def models_command(as_json: bool) -> None:
    """List the zoo: models that train, export and show take by name.

    \b
    Examples:
      edgecnn models
      edgecnn models --json
    """
    from edgecnn.cli.output import print_json, print_table
    from edgecnn.models import ZOO

    if as_json:
        print_json({"schema": 1, "models": [asdict(entry) for entry in ZOO.values()]})
        return
    columns = [("model", "left"), ("input", "left"), ("parameters", "right"), ("MACs", "right")]
    columns += [("trains on", "left"), ("source", "left"), ("", "left")]
    rows = [
        [e.name, "x".join(map(str, e.input_shape)), f"{e.parameters:,}", f"{e.macs:,}", e.data, e.source, e.summary]
        for e in ZOO.values()
    ]
    print_table(columns, rows)
