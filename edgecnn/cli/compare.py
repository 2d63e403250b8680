"""``edgecnn compare``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import (
    data_options,
    json_option,
    load_data,
    refuse_without_data,
    target_option,
    time_limit_option,
)
from edgecnn.cli.state import common_options
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    from edgecnn.compare import Options
    from edgecnn.compare.reconcile import Inputs, Side
    from edgecnn.compare.samples import Feed
    from edgecnn.export.file_facts import Affine

F = TypeVar("F", bound=Callable[..., Any])
_MATCHING = (
    ("--input-map", "A=B", "Name in B of an input of A; can be repeated, like the options below."),
    ("--output-map", "A=B", "Name in B of an output of A."),
    ("--layout-a", "[NAME=]nchw|nhwc", "Channel layout of A."),
    ("--layout-b", "[NAME=]nchw|nhwc", "Channel layout of B."),
    ("--shape", "NAME=1x3x224x224", "Shape of an input whose file leaves sizes open."),
    ("--quantization-a", "NAME=SCALE,ZERO", "Quantization of integers of A."),
    ("--quantization-b", "NAME=SCALE,ZERO", "Quantization of integers of B."),
    ("--range", "[NAME=]LOW,HIGH", "Range of random values, by names of A."),
)


def _matching_options(command: F) -> F:
    """Options that match the inputs and outputs of the two files."""
    for name, form, text in reversed(_MATCHING):
        command = click.option(name, multiple=True, metavar=form, help=text)(command)
    return command


@click.command("compare")
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@data_options
@click.option("--samples", type=click.IntRange(min=1), help="Number of random samples, without --data.  [default: 32]")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the random samples.  [default: 0]")
@_matching_options
@click.option(
    "--limit", "limits", multiple=True, metavar="METRIC=VALUE", help="Limit for every output of B; can be repeated."
)
@target_option
@click.option("--target-a", "targets_a", multiple=True, metavar="TARGET", help="Where A runs, if not on --target.")
@click.option("--target-b", "targets_b", multiple=True, metavar="TARGET", help="Where B runs, if not on --target.")
@time_limit_option
@json_option
@common_options
def compare_command(
    a: Path,
    b: Path,
    targets: tuple[str, ...],
    targets_a: tuple[str, ...],
    targets_b: tuple[str, ...],
    time_limit: float | None,
    json_file: Path | None,
    **given: Any,
) -> int:
    """Compare the outputs of B with those of A, the reference: two .onnx or .tflite files of any origin.

    Both files get the same samples, each in its own layout and type. Names, layouts, shapes and quantization are
    matched by what the files declare, and the matches are printed; what they do not declare must be given, and is
    never guessed.

    Without --limit the differences are printed, and the exit code is 0. METRIC is one of
    max_abs_error, mean_abs_error, relative_error, rmse, top1_disagreement, top5_disagreement, nans, infinities (VALUE
    is the most), snr_db, psnr_db, cosine (the least).
    Exits 1 if a limit does not hold or shapes differ, and 2 if a file or target cannot be used.

    \b
    Examples:
      edgecnn compare before.onnx after.onnx --limit relative_error=1e-5
      edgecnn compare net.fp32.onnx net.int8.tflite --data folder:photos --limit top1_disagreement=0.01
      edgecnn compare theirs.onnx ours.tflite --input-map data=x --layout-a nchw --layout-b nhwc
      edgecnn compare net.tflite net.tflite --target-a litert --target-b tflite-micro
      edgecnn compare net.onnx net.tflite --shape images=1x3x96x96 --range images=0,1 --json -
    """
    from edgecnn.cli.compare_output import print_comparison
    from edgecnn.cli.output import progress_bar
    from edgecnn.compare import compare_files
    from edgecnn.compare.source import read_source

    options = _options(given)
    sources = [read_source(a), read_source(b)]
    with progress_bar("comparing") as progress:
        report = compare_files(
            *sources,
            options=options,
            feed=_feed(given, [s.facts.preprocessing for s in sources]),
            targets=targets,
            targets_a=targets_a,
            targets_b=targets_b,
            time_limit=time_limit,
            progress=progress,
        )
    if not put_json(json_file, report.as_json()):
        print_comparison(report)
    return report.exit_code


def _options(given: Mapping[str, Any]) -> Options:
    from edgecnn.compare import Options
    from edgecnn.compare.metric_limits import parse_limit

    if given["data"] is not None:
        without_effect = [name for name in ("samples", "seed") if given[name] is not None] + (
            ["range"] if given["range"] else []
        )
        if without_effect:
            raise UsageError(f"--{' and --'.join(without_effect)} with --data has no effect", hint="leave it out")
    return Options(
        input_map=_named("--input-map", given["input_map"], str),
        output_map=_named("--output-map", given["output_map"], str),
        shapes=_named("--shape", given["shape"], _shape),
        ranges=_named("--range", given["range"], _range, may_lack_name=True),
        a=_side("a", given),
        b=_side("b", given),
        samples=32 if given["samples"] is None else given["samples"],
        seed=given["seed"] or 0,
        limits=MappingProxyType(dict(parse_limit(text) for text in given["limits"])),
    )


def _side(letter: str, given: Mapping[str, Any]) -> Side:
    from edgecnn.compare.reconcile import Side

    return Side(
        layouts=_named(f"--layout-{letter}", given[f"layout_{letter}"], _layout, may_lack_name=True),
        quantization=_named(f"--quantization-{letter}", given[f"quantization_{letter}"], _affine),
    )


def _named(
    option: str, texts: Sequence[str], read: Callable[[str], Any], *, may_lack_name: bool = False
) -> Mapping[str, Any]:
    """``NAME=VALUE`` by name; under "" where the name is left out. The name may have an equals sign, the value none."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not value or (not name and (equals or not may_lack_name)):
            raise UsageError(f"{option} {text} is not NAME=VALUE", hint="edgecnn compare -h shows an example")
        if name in found:
            raise UsageError(f"{option} speaks of {name or 'all'} twice", hint="once for each")
        try:
            found[name] = read(value)
        except ValueError as err:
            raise UsageError(f"{option} {text}: {err}", hint="edgecnn compare -h shows an example") from err
    return MappingProxyType(found)


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split("x"))
    if min(sizes) < 1 or len(sizes) > 8:
        raise ValueError("sizes are positive, and at most 8")
    return sizes


def _layout(text: str) -> str:
    from edgecnn.compare.shape_mapping import LAYOUTS

    if text.lower() not in LAYOUTS:
        raise ValueError(f"{text!r} is none of {', '.join(LAYOUTS)}")
    return text.lower()


def _two(text: str) -> tuple[float, float]:
    first, _, second = text.partition(",")
    numbers = float(first), float(second)
    if not all(abs(n) < float("inf") for n in numbers):
        raise ValueError("both numbers must be finite")
    return numbers


def _range(text: str) -> tuple[float, float]:
    low, high = _two(text)
    if low > high:
        raise ValueError("the smaller number comes first")
    return low, high


def _affine(text: str) -> Affine:
    from edgecnn.export.file_facts import Affine

    scale, zero_point = _two(text)
    if scale <= 0:
        raise ValueError("a scale is positive")
    return Affine(scale=scale, zero_point=zero_point)


def _feed(given: Mapping[str, Any], known: Sequence[Any]) -> Callable[[Inputs], Feed] | None:
    """A function that makes samples of the data set, preprocessed as the manifest of either file's bundle says."""
    how = {key: given[key] for key in ("split", "scale", "mean", "std")}
    if given["data"] is None:
        refuse_without_data(how)
        return None
    recorded = next((p for p in known if p is not None), None)

    def make(inputs: Inputs) -> Feed:
        from edgecnn.compare.samples import data_feed, image_shape

        return data_feed(inputs, load_data(given["data"], [image_shape(inputs)], **how, recorded=recorded))

    return make
