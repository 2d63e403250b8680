"""``edgecnn filter``."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import json_option, prints_to_stderr, time_limit_option
from edgecnn.cli.state import common_options


@click.command("filter")
@click.argument("image", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option(
    "--kernel",
    required=True,
    metavar="NAME",
    help="identity, box_blur, gaussian, sharpen, sobel_x, sobel_y, laplacian or emboss.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Result, such as out.png."
)
@click.option(
    "--padding",
    type=click.Choice(["zeros", "replicate", "reflect"]),
    default="zeros",
    show_default=True,
    help="How the image continues beyond its edges.",
)
@click.option("--format", "form", type=click.Choice(["onnx", "tflite"]), default="onnx", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option(
    "--target", metavar="TARGET", help="RUNTIME@HOST.  [default: the first runtime here that runs the format]"
)
@time_limit_option
@json_option
@common_options
def filter_command(
    image: Path,
    kernel: str,
    output: Path,
    padding: str,
    form: str,
    precision: str,
    target: str | None,
    time_limit: float | None,
    json_file: Path | None,
) -> None:
    """Run a fixed filter on IMAGE, as an exported artifact on a runtime.

    Pixels from 0 to 255 become inputs from 0 to 1. Kernels whose weights sum to 1 (identity, blurs, sharpen, emboss)
    give brightness, clipped to 0 and 255. Kernels whose weights sum to 0 (Sobel, Laplacian) give differences: no
    difference is 128, and the largest possible differences are 1 and 255.

    \b
    Examples:
      edgecnn filter photo.jpg --kernel sobel_x -o edges.png
      edgecnn filter photo.jpg --kernel gaussian --padding replicate --format tflite --precision int8 -o soft.png
      edgecnn filter photo.jpg --kernel laplacian --format tflite --target litert@pi4 -o lines.png
    """
    from edgecnn.inference.filter_image import check_image_path, filter_image, read_image, write_image

    check_image_path(output)
    pixels = read_image(image)
    with prints_to_stderr():
        done = filter_image(
            pixels, kernel, padding=padding, form=form, precision=precision, target=target, time_limit=time_limit
        )
    write_image(output, done.pixels)
    size = f"{pixels.shape[1]}x{pixels.shape[0]} {'grey' if pixels.ndim == 2 else 'RGB'}"
    made = {"kernel": kernel, "artifact": done.artifact, "target": done.target, "version": done.version}
    result = {"schema": 1, "output": str(output), "image": size, **made, "max_abs_error": done.max_abs_error}
    if put_json(json_file, result):
        return
    click.echo(f"{output}: {kernel} of {image.name} ({size}), {done.artifact} on {done.target} {done.version}")
    click.echo(f"largest difference from torch {done.max_abs_error:.1e}, on a scale from black at 0 to white at 1")
