"""Write operators.md, commands.md and the JSON schemas from the tables, classes and the command line themselves.

``python docs/generate.py`` writes them; a test says when they are out of date.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import click

HERE = Path(__file__).parent


def operators_page() -> str:
    """Which torch operators are taken, and what becomes of each operator of the graph."""
    from edgecnn.capture.aten import CONVERTERS, HINTS
    from edgecnn.export.onnx import lower as onnx
    from edgecnn.export.tflite import lower as tflite
    from edgecnn.graph.ops import OPS
    from edgecnn.quantize.quantize import NO_INT8_FORM

    lines = [
        "# Operators",
        "",
        "Made by `make docs` from the tables that do the work. An operator that is not here is refused by name, with",
        "its place in your code; all of them at once.",
        "",
        "## From torch",
        "",
        "In-place forms (`relu_`) are taken as well. What depends on parameters and constants alone may use any",
        "operator: it is computed once, at export.",
        "",
        *(f"- `{name}`" for name in sorted(CONVERTERS)),
        "",
        "## To ONNX and TFLite",
        "",
        "int8 is the kernel of the format, or the steps that the table says. What has neither is refused with the",
        "reason, unless a recipe keeps the layer float.",
        "",
        "| operator | meaning | ONNX | TFLite | int8 |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {op.__name__} | {_first(op)} | {_first(onnx.LOWERINGS[op])} | {_first(tflite.LOWERINGS[op])} |"
            f" {f'refused: {NO_INT8_FORM[op][0]}' if op in NO_INT8_FORM else 'yes'} |"
            for op in OPS
        ),
        "",
        "## Not taken, and what to try",
        "",
        "| torch | try |",
        "| --- | --- |",
        *(f"| `{prefix}` | {hint} |" for prefix, hint in HINTS.items()),
    ]
    return "\n".join(lines) + "\n"


def _first(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).replace("|", "\\|").replace("``", "`")


def commands_page() -> str:
    """Every command's help."""
    return "\n".join(["# Commands", "", "Made by `make docs` from the command line itself.", "", *_help()])


def _help() -> Iterator[str]:
    from edgecnn.cli import COMMANDS, cli

    top = click.Context(cli, info_name="edgecnn", terminal_width=100, **cli.context_settings)
    yield from _section(top)
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top, terminal_width=100)
        yield from _section(context)
        for sub in command.commands.values() if isinstance(command, click.Group) else ():
            yield from _section(click.Context(sub, info_name=sub.name, parent=context, terminal_width=100))


def _section(context: click.Context) -> Iterator[str]:
    yield from (f"## {context.command_path}", "", "```", context.command.get_help(context), "```", "")


def check_schema_page() -> str:
    """The JSON Schema of ``edgecnn check --json``."""
    from edgecnn.report.schema import check_schema

    return json.dumps(check_schema(), indent=2) + "\n"


def ci_schema_page() -> str:
    """The JSON Schema of ``edgecnn ci --json``."""
    from edgecnn.report.schema import ci_schema

    return json.dumps(ci_schema(), indent=2) + "\n"


PAGES = {
    "operators.md": operators_page,
    "commands.md": commands_page,
    "check.schema.json": check_schema_page,
    "ci.schema.json": ci_schema_page,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (HERE / file).write_text(page(), encoding="utf-8")
