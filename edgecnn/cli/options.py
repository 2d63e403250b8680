"""Options that several commands share, and what they mean."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.files import JSON
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    from edgecnn.data.dataset import Dataset
    from edgecnn.data.preprocessing import Preprocessing
    from edgecnn.loading import LoadedModel

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


def prints_to_stderr() -> contextlib.redirect_stdout[Any]:
    """While the user's own code runs: what it prints is no part of the result."""
    return contextlib.redirect_stdout(sys.stderr)


def load_model(model: str, weights: Path | None, arguments: Sequence[str], *, seed: int = 0) -> LoadedModel:
    """The model that MODEL, ``--weights`` and ``--arg`` name; its random weights come from the seed."""
    from edgecnn.loading import load_module, parse_argument

    return load_module(model, arguments=dict(parse_argument(a) for a in arguments), weights=weights, seed=seed)


def input_shapes(model: LoadedModel, shapes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Input shapes: as given, else as the model says.

    Raises:
        UsageError: if neither says, or shapes are given for a program, which has its own.
    """
    from edgecnn.loading import parse_shape

    if shapes and model.program is not None:
        raise UsageError("a .pt2 program has its input shapes already", hint="leave --input-shape out")
    if shapes:
        return tuple(parse_shape(s) for s in shapes)
    if model.input_shapes:
        return model.input_shapes
    raise UsageError("the shape of the model's input is not known", hint="--input-shape 3x64x64 (without the batch)")


def refuse_without_data(how: dict[str, Any]) -> None:
    """Refuse options of the data where there is none.

    Raises:
        UsageError: naming them.
    """
    idle = [f"--{key}" for key, value in how.items() if value is not None]
    if idle:
        raise UsageError(f"{', '.join(idle)} without --data has no effect", hint="--data DATA, or leave it out")


def load_data(
    spec: str,
    shapes: Sequence[tuple[int, ...]] | None,
    *,
    split: str | None = None,
    scale: float | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    noted: Preprocessing | None = None,
) -> Dataset:
    """The data set that ``--data`` and its options name, fitted to the model's one input.

    Args:
        spec: The value of ``--data``.
        shapes: The model's input shapes without the batch, or None if they are not known yet.
        split: The part.
        scale: Factor; None for what is noted, or the data's usual one.
        mean: Subtracted; likewise.
        std: Divided by; likewise.
        noted: The preprocessing that a bundle was exported with.

    Raises:
        UsageError: if the model has more than one input, or one that is no image.
        DataError: if the data cannot be read or does not fit.
    """
    from edgecnn.data.sources import load_dataset

    if shapes is not None and (len(shapes) != 1 or len(shapes[0]) != 3):
        raise UsageError(
            f"a data set of images does not fit inputs of {', '.join('x'.join(map(str, s)) for s in shapes)}",
            hint="leave --data out, or use edgecnn.export_model(..., calibration=...) in Python",
        )
    shape = None if shapes is None else (shapes[0][0], shapes[0][1], shapes[0][2])
    if noted is not None:
        scale = noted.scale if scale is None else scale
        mean = noted.mean if mean is None else mean
        std = noted.std if std is None else std
    return load_dataset(spec, input_shape=shape, split=split, scale=scale, mean=mean, std=std)
