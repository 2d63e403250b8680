"""Options that several commands share, and what they mean."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.files import JSON
from edgecnn.errors import UsageError
from edgecnn.exporting.request import input_shapes, load_data

if TYPE_CHECKING:
    from edgecnn.exporting.request import DataChoice
    from edgecnn.loading import LoadedModel

__all__ = ["input_shapes", "load_data"]
F = TypeVar("F", bound=Callable[..., Any])
MODEL_HELP = (
    "MODEL is a zoo name (`edgecnn models`), path/to/file.py:callable, package.module:callable, or a .pt2 file."
)


class Names(click.ParamType[tuple[str, ...]]):
    """Comma-separated names."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        """Split at commas."""
        return tuple(value) if isinstance(value, tuple) else tuple(n.strip() for n in value.split(",") if n.strip())


class Numbers(click.ParamType[tuple[float, ...]]):
    """Comma-separated numbers."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Split at commas, and read."""
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
            help="Argument of the model's class or function; may be given again.",
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
            help="Part of the data; by default the held-out test part of digits and scenes, all of anything else.",
        ),
        click.option("--scale", type=float, help="Factor for raw values; by default 1/16 for digits, 1/255 for bytes."),
        click.option("--mean", type=Numbers(), metavar="M[,M...]", help="Subtracted after scaling, per channel."),
        click.option("--std", type=Numbers(), metavar="S[,S...]", help="Divided by after that, per channel."),
    )
    return _all(command, options)


def json_option(command: F) -> F:
    """``--json FILE``."""
    text = "Write the result as JSON; - for standard output, and nothing else is printed there."
    return click.option("--json", "json_file", type=JSON, metavar="FILE", help=text)(command)


def _all(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def target_option(command: F) -> F:
    """``--target``, which may be given again."""
    text = "RUNTIME@HOST, with either half left out, or a glob; may be given again (docs/targets.md)."
    return click.option("--target", "targets", multiple=True, metavar="TARGET", help=text)(command)


def time_limit_option(command: F) -> F:
    """``--time-limit``."""
    text = "Seconds for one answer of a runtime.  [default: 60; on emulated boards 600]"
    return click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), help=text)(command)


def data_choice(given: Mapping[str, Any]) -> DataChoice | None:
    """What ``--data`` and its options say.

    Raises:
        UsageError: if there are options of the data, and no data.
    """
    from edgecnn.exporting.request import DataChoice

    how = {key: given[key] for key in ("split", "scale", "mean", "std")}
    if given["data"] is None:
        refuse_without_data(how)
        return None
    return DataChoice(spec=given["data"], **how)


def prints_to_stderr() -> contextlib.redirect_stdout[Any]:
    """While the user's own code runs: what it prints is no part of the result."""
    return contextlib.redirect_stdout(sys.stderr)


def load_model(model: str, weights: Path | None, arguments: Sequence[str], *, seed: int = 0) -> LoadedModel:
    """The model that MODEL, ``--weights`` and ``--arg`` name; its random weights come from the seed."""
    from edgecnn.loading import load_module, parse_argument

    return load_module(model, arguments=dict(parse_argument(a) for a in arguments), weights=weights, seed=seed)


def parse_shapes(shapes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """What ``--input-shape`` says, each time it was given."""
    from edgecnn.loading import parse_shape

    return tuple(parse_shape(s) for s in shapes)


def refuse_without_data(how: dict[str, Any]) -> None:
    """Refuse options of the data where there is none.

    Raises:
        UsageError: naming them.
    """
    idle = [f"--{key}" for key, value in how.items() if value is not None]
    if idle:
        raise UsageError(f"{', '.join(idle)} without --data has no effect", hint="--data DATA, or leave it out")
