"""Options that several commands share, and functions that read their values."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import click

from edgecnn.cli.result_files import JSON
from edgecnn.errors import UsageError
from edgecnn.export.formats import check_choice
from edgecnn.exporting.export_options import ExportOptions, on_command_line, option_info
from edgecnn.exporting.request import input_shapes, load_data

if TYPE_CHECKING:
    from edgecnn.exporting.request import DataChoice
    from edgecnn.loading import LoadedModel

__all__ = ["input_shapes", "load_data"]
F = TypeVar("F", bound=Callable[..., Any])
MODEL_HELP = (
    "MODEL is a zoo name (`edgecnn models`), path/to/file.py:callable, package.module:callable, or a .pt2 file."
)


class NameList(click.ParamType[tuple[str, ...]]):
    """Comma-separated names.

    Args:
        known: The names that may be given; empty for any.
    """

    name = "names"

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        """Split at commas, and refuse names that are not known."""
        names = tuple(value) if isinstance(value, tuple) else tuple(n.strip() for n in value.split(",") if n.strip())
        return check_choice(param.opts[0] if param else self.name, names, self._known) if self._known else names


class NumberList(click.ParamType[tuple[float, ...]]):
    """Comma-separated numbers."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Split at commas, and read each number."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(n) for n in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not one number or several with commas, such as 0.485,0.456,0.406", param, ctx)


def model_options(command: F) -> F:
    """``--weights``, ``--arg`` and ``--input-shape``."""
    options = (
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            help="State dict: .pt or .pth (read without running code) or .safetensors.",
        ),
        click.option(
            "--arg",
            "arguments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Argument of the model's class or function; can be repeated.",
        ),
        click.option(
            "--input-shape",
            "shapes",
            multiple=True,
            metavar="CxHxW",
            help="Shape of an input without the batch, such as 1x28x28; once per input.",
        ),
    )
    return _all(command, options)


def data_options(command: F) -> F:
    """``--data``, ``--split``, ``--scale``, ``--mean`` and ``--std``."""
    options = (
        click.option("--data", metavar="DATA", help="digits, scenes, npz:FILE, idx:IMAGES,LABELS or folder:DIR."),
        click.option(
            "--split",
            type=click.Choice(["train", "test", "all"]),
            help="Part of the data.  [default: the held-out test part of digits and scenes; all of any other data]",
        ),
        click.option("--scale", type=float, help="Factor for raw values.  [default: 1/16 for digits, 1/255 for bytes]"),
        click.option("--mean", type=NumberList(), metavar="M[,M...]", help="Subtracted after scaling, per channel."),
        click.option("--std", type=NumberList(), metavar="S[,S...]", help="Divided by after --mean, per channel."),
    )
    return _all(command, options)


def export_options(command: F) -> F:
    """An option for each field of :class:`~edgecnn.exporting.export_options.ExportOptions`."""
    return _all(command, [_export_option(option.name, option.default) for option in fields(ExportOptions)])


def _export_option(name: str, default: Any) -> Callable[[F], F]:
    info, kind = option_info(name), get_type_hints(ExportOptions)[name]
    if kind is bool:
        return click.option(on_command_line(name), is_flag=True, help=info.help)
    types: dict[Any, Any] = {
        tuple[str, ...]: NameList(info.choices),
        int | None: click.IntRange(min=1),
    }
    text = click.Choice(info.choices) if info.choices else click.STRING
    return click.option(on_command_line(name), type=types.get(kind, text), default=default, help=info.help)


def given_options(given: Mapping[str, Any]) -> ExportOptions:
    """The values of the options that `export_options` adds to a command."""
    return ExportOptions(**{option.name: given[option.name] for option in fields(ExportOptions)})


def json_option(command: F) -> F:
    """``--json FILE``."""
    text = "Write the result as JSON; - is standard output, where nothing else is then printed."
    return click.option("--json", "json_file", type=JSON, metavar="FILE", help=text)(command)


def _all(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def target_option(command: F) -> F:
    """``--target``, which can be repeated."""
    text = "RUNTIME@HOST, with either half left out, or a glob; can be repeated (docs/targets.md)."
    return click.option("--target", "targets", multiple=True, metavar="TARGET", help=text)(command)


def time_limit_option(command: F) -> F:
    """``--time-limit``."""
    text = "Seconds for one answer of a runtime.  [default: 60; on emulated boards 600]"
    return click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), help=text)(command)


def data_choice(given: Mapping[str, Any]) -> DataChoice | None:
    """The data set that ``--data`` and its options choose, if any.

    Raises:
        UsageError: if there are options that prepare data, and no data.
    """
    from edgecnn.exporting.request import DataChoice

    how = {key: given[key] for key in ("split", "scale", "mean", "std")}
    if given["data"] is None:
        refuse_without_data(how)
        return None
    return DataChoice(spec=given["data"], **how)


def prints_to_stderr() -> contextlib.redirect_stdout[Any]:
    """Send what the user's own code prints to standard error, since it is no part of the result."""
    return contextlib.redirect_stdout(sys.stderr)


def load_model(model: str, weights: Path | None, arguments: Sequence[str], *, seed: int = 0) -> LoadedModel:
    """The model that MODEL, ``--weights`` and ``--arg`` name; without weights they are random, from the seed."""
    from edgecnn.loading import load_module, parse_argument

    return load_module(model, arguments=dict(parse_argument(a) for a in arguments), weights=weights, seed=seed)


def parse_shapes(shapes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The shapes that ``--input-shape`` gives, one for each time it is given."""
    from edgecnn.loading import parse_shape

    return tuple(parse_shape(s) for s in shapes)


def refuse_without_data(how: dict[str, Any]) -> None:
    """Refuse options that prepare data where there is no data.

    Raises:
        UsageError: naming the options.
    """
    given = [f"--{key}" for key, value in how.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} without --data has no effect", hint="--data DATA, or leave it out")
