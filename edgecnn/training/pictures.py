"""Draw what a model finds in scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data.dataset import Dataset, SceneObject
from edgecnn.errors import DataError, UsageError
from edgecnn.training.tasks import Centre, Centres, Segments, Task, find_centres, match_centres
from edgecnn.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image

SCENES = 8
"""Most scenes in a picture."""
_COLUMNS = 4
_ZOOM = 3
_RIGHT, _WRONG, _MISSED = (80, 220, 100), (250, 80, 80), (250, 190, 60)
_PALETTE = ((230, 80, 80), (240, 150, 50), (230, 220, 70), (130, 210, 70), (60, 190, 140), (70, 190, 230),
            (90, 120, 240), (160, 100, 240), (230, 100, 220), (200, 200, 200))  # fmt: skip


def check_picture(path: Path) -> None:
    """Refuse a path that a picture cannot be written to.

    Raises:
        UsageError: if it does not end in ``.png``, or is a folder.
    """
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UsageError("pictures are written as PNG files", where=str(path), hint=path.with_suffix(".png").name)


def check_drawable(data: Dataset) -> None:
    """Refuse data without objects to draw.

    Raises:
        UsageError: if the objects in its images are not known.
    """
    if data.truth is None:
        raise UsageError(f"there is nothing to draw on {data.spec}", hint="--data scenes, or leave --picture out")


def draw(path: Path, data: Dataset, outputs: Array, places: Sequence[int], task: Task) -> None:
    """Draw scenes with what a model finds in them.

    For centres: a green ring around each correct detection, a red ring around each wrong one, with the predicted class,
    and an amber square around each missed object. For pixels: the scene, and the predicted classes below it.

    Args:
        path: A PNG file; an existing one is replaced.
        data: The scenes.
        outputs: The logits for the scenes at ``places``, (n, classes, rows, columns).
        places: The scenes to draw, at most :data:`SCENES`.
        task: The task of the model.

    Raises:
        UsageError: if the task has no picture.
        DataError: if the file cannot be written.
    """
    tiles = []
    for place, logits in zip(places[:SCENES], outputs[:SCENES], strict=False):
        pixels = data.batch([place])[0].mean(0)
        match task:
            case Centres():
                tiles.append(_centres(pixels, logits, data.objects(place)))
            case Segments():
                tiles.append(_segments(pixels, logits))
            case _:
                raise UsageError("this task has no picture", hint="leave --picture out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sheet(tiles).save(path, "PNG")
    except OSError as error:
        raise DataError("the picture cannot be written", where=str(path), why=error.strerror or str(error)) from error


def _sheet(tiles: Sequence[Image]) -> Image:
    from PIL import Image

    width, height = tiles[0].size
    columns = min(_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * (width + 2) - 2, -(-len(tiles) // columns) * (height + 2) - 2))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * (width + 2), i // columns * (height + 2)))
    return sheet


def _centres(pixels: Array, logits: Array, objects: Sequence[SceneObject]) -> Image:
    from PIL import ImageDraw

    size = (pixels.shape[0], pixels.shape[1])
    cell = (size[0] / logits.shape[1], size[1] / logits.shape[2])
    found = find_centres(logits, size)
    matched = match_centres(found, objects, cell)
    tile = _zoomed(pixels)
    pen = ImageDraw.Draw(tile)
    for o in objects:
        if o not in matched:
            pen.rectangle(_box(o.row, o.column, o.side / 2), outline=_MISSED, width=2)
    for centre, right in zip(found, matched, strict=True):
        _ring(pen, centre, cell, _WRONG if right is None else _RIGHT)
    return tile


def _ring(pen: Any, centre: Centre, cell: tuple[float, float], colour: tuple[int, int, int]) -> None:
    box = _box(centre.row, centre.column, min(cell))
    pen.ellipse(box, outline=colour, width=2)
    pen.text((box[2] + 1, box[1]), str(centre.label), fill=colour)


def _segments(pixels: Array, logits: Array) -> Image:
    from PIL import Image

    best = logits.argmax(0)
    colours = np.array([(0, 0, 0), *(_PALETTE[i % len(_PALETTE)] for i in range(logits.shape[0] - 1))], np.uint8)
    classes = Image.fromarray(colours[best])
    scene = _zoomed(pixels)
    tile = Image.new("RGB", (scene.width, 2 * scene.height))
    tile.paste(scene, (0, 0))
    tile.paste(classes.resize(scene.size, Image.Resampling.NEAREST), (0, scene.height))
    return tile


def _zoomed(pixels: Array) -> Image:
    """An enlarged grey image, with its values stretched to the full range."""
    from PIL import Image

    low, high = float(pixels.min()), float(pixels.max())
    grey = np.rint((pixels - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    size = (pixels.shape[1] * _ZOOM, pixels.shape[0] * _ZOOM)
    return Image.fromarray(grey).resize(size, Image.Resampling.NEAREST).convert("RGB")


def _box(row: float, column: float, half: float) -> tuple[float, float, float, float]:
    return _ZOOM * (column - half), _ZOOM * (row - half), _ZOOM * (column + half), _ZOOM * (row + half)
