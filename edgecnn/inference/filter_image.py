"""Apply a fixed filter to an image by running an exported artifact."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.errors import DataError, TargetError, UsageError
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for

if TYPE_CHECKING:
    from edgecnn.targets.target import Target

MOST_PIXELS = 2**24
"""Largest image, 16 million pixels. With more, a float image and its copies fill a small computer's memory."""
_FORMAT, _PRECISIONS = "onnx", ("fp32", "int8")

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """A filtered image, and how it was computed.

    Attributes:
        pixels: The result as bytes, (H, W) for grey and (H, W, 3) for RGB.
        target: Where it ran.
        version: The version of the runtime.
        artifact: The artifact's file name.
        max_abs_error: The largest difference from torch's result, with the image's values from 0 to 1.
    """

    pixels: Bytes
    target: str
    version: str
    artifact: str
    max_abs_error: float


def read_image(path: Path) -> Bytes:
    """The pixels of an image file: (H, W) for a grey one, (H, W, 3) for any other, without transparency.

    Raises:
        DataError: if it is not an image, is damaged, has more than 8 bits per channel, or is too large.
    """
    import struct
    import warnings

    from PIL import Image

    from edgecnn.data.raw import reading

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    damage = (SyntaxError, ValueError, EOFError, IndexError, struct.error, *bombs)
    with reading(path, "an image", *damage), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", "Palette images with Transparency")
        with Image.open(path) as image:
            _check_header(image, path)
            pixels: Bytes = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return pixels


def write_image(path: Path, pixels: Bytes) -> None:
    """Write pixels as an image file, in the format of the path's ending.

    Raises:
        UsageError: if the ending is not one of a lossless format.
        DataError: if the file cannot be written.
    """
    from PIL import Image

    check_image_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise DataError("the image cannot be written", where=str(path), why=error.strerror or str(error)) from error


def check_image_path(path: Path) -> None:
    """Refuse a path that :func:`write_image` could not write to.

    Raises:
        UsageError: if it is a folder, or its ending is not one of a lossless format.
    """
    if path.suffix.lower() not in (".png", ".bmp", ".tif", ".tiff") or path.is_dir():
        raise UsageError("the result is written as a lossless image", where=str(path), hint="out.png")


def filter_image(
    pixels: Bytes,
    kernel: str,
    *,
    padding: str = "zeros",
    form: str = _FORMAT,
    precision: str = _PRECISIONS[0],
    target: str | None = None,
    time_limit: float | None = None,
) -> Filtered:
    """Export a filter for the image's shape, run the artifact on the image, and turn the output into an image.

    Args:
        pixels: Shape (H, W) or (H, W, 3); 0 to 255 become inputs from 0 to 1.
        kernel: One of :data:`edgecnn.models.fixed_filters.KERNELS`.
        padding: One of :data:`edgecnn.models.fixed_filters.PADDINGS`.
        form: ``onnx`` or ``tflite``.
        precision: ``fp32``, or ``int8`` with ranges taken from the image itself.
        target: Where to run, as for ``--target``; the first one if several match. None for the first runtime here that
            runs the format.
        time_limit: Seconds for the runtime to answer; None for 60, on emulated boards 600.

    Raises:
        UsageError: if a format, precision or target is not known, or the target does not run the format.
        ModelError: if there is no such kernel or padding.
        TargetError: if the target cannot be reached, or fails.
    """
    import torch

    from edgecnn.data.calibration import of_samples
    from edgecnn.export.formats import FORMATS, check_choice
    from edgecnn.exporting.export_model import export_model
    from edgecnn.models.fixed_filters import KERNELS, Filter
    from edgecnn.parity.runner import Runner

    check_choice("--format", (form,), FORMATS)
    check_choice("--precision", (precision,), _PRECISIONS)
    where = _chosen(target, form, time_limit)
    planes = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    x = np.ascontiguousarray(planes[np.newaxis], np.float32) / np.float32(255)
    module = Filter(kernel, x.shape[1], padding).eval()
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_model(
            module,
            torch.from_numpy(x),
            Path(folder) / "filter",
            formats=[form],
            precisions=[precision],
            calibration=of_samples((x,), "the image"),
            name=kernel,
        )
        artifact = bundle.artifact(form, precision)
        with where.open(artifact.read(), artifact.path.name) as session:
            output = Runner(bundle, artifact, session).infer([x])[0]
            version = session.version
    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).numpy()
    shown = shown_as_bytes(output[0], KERNELS[kernel].total, KERNELS[kernel].reach)
    return Filtered(
        pixels=shown[0] if pixels.ndim == 2 else np.ascontiguousarray(shown.transpose(1, 2, 0)),
        target=where.name,
        version=version,
        artifact=artifact.path.name,
        max_abs_error=float(np.abs(output - expected).max()),
    )


def shown_as_bytes(values: npt.NDArray[np.float32], total: float, reach: float) -> Bytes:
    """Filtered values as bytes.

    A kernel whose total is not 0 gives brightness: 0 to 1 become 0 to 255, and what is beyond is cut off. One whose
    total is 0 gives differences of either sign: nothing becomes the grey 128, and the most that an image can give,
    ``reach``, 128 - 127 and 128 + 127. Halves are rounded to even.
    """
    scaled = values * 255 if total else 128 + 127 * values / reach
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _chosen(name: str | None, form: str, time_limit: float | None) -> Target:
    from edgecnn.targets.target import installed_targets, resolve_targets

    found = installed_targets(time_limit=time_limit) if name is None else resolve_targets([name], time_limit=time_limit)
    fitting = [target for target in found if form in RUNTIMES[target.runtime].formats]
    if fitting:
        return fitting[0]
    rows = runtimes_for(form)
    if name is None:
        raise TargetError(f"no runtime here runs {form} files", hint=f"pip install {rows[0].distribution}")
    raise UsageError(f"{name} does not run {form} files", hint=" or ".join(row.name for row in rows))


def _check_header(image: Any, path: Path) -> None:
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"the image's values are not bytes (Pillow calls its mode {image.mode})",
            where=str(path),
            hint="convert it to 8 bits per channel",
        )
    if image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"the image has {image.width * image.height:,} pixels",
            where=str(path),
            hint=f"at most {MOST_PIXELS:,}; make it smaller first",
        )
