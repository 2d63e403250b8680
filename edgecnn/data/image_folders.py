"""Read images in class folders: ``folder:DIR``."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecnn.data.labels import refuse_one_class
from edgecnn.data.preprocessing import Resize
from edgecnn.data.raw import RawSet, Shape, by, reading
from edgecnn.data.resize import resize
from edgecnn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgecnn.data.dataset import Indices

ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".tif", ".tiff"))
_GREY_MODES = ("1", "L", "LA")
_MODE = {1: "L", 3: "RGB"}


def read_folder(folder: Path, wanted: Shape | None) -> RawSet:
    """Images in class folders, read on demand; this function reads only their headers.

    Each folder within ``folder`` is a class, in alphabetical order; its images may lie in subfolders. Names that begin
    with a dot are skipped. Images are converted to grey or RGB to match the model's channels (without transparency; an
    animation gives its first frame) and resized. The orientation in the metadata of a camera is not applied.

    Raises:
        DataError: if there are fewer than two classes with images, a header cannot be read, or without ``wanted`` the
            images differ in size.
    """
    classes = _classes(folder)
    files = [_images_below(path) for path in classes]
    _check_classes(folder, classes, files)
    paths = [path for found, _ in files for path in found]
    headers = [_header(path) for path in paths]
    shape = wanted or _common_shape(headers, folder)
    if shape[0] not in _MODE:
        raise DataError(f"images have 1 or 3 channels, the model takes {shape[0]}", where=str(folder), hint="npz:FILE")
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(found) for found, _ in files])
    resized = _resize(headers, shape)
    return RawSet(
        title=f"{folder.name or folder.resolve().name}/",
        images=FolderImages(paths, shape),
        labels=refuse_one_class(labels, str(folder)),
        class_names=tuple(path.name for path in classes),
        scale=1 / 255,
        resize=resized,
        notes=_notes(headers, shape, resized, sum(others for _, others in files)),
    )


def read_images(paths: Sequence[Path], wanted: Shape) -> RawSet:
    """Image files without classes, converted and resized as `read_folder` does.

    Raises:
        DataError: if one cannot be read, or the model takes neither 1 nor 3 channels.
    """
    if wanted[0] not in _MODE:
        raise DataError(f"images have 1 or 3 channels, the model takes {wanted[0]}", hint="give arrays: .npz or .npy")
    headers = [_header(path) for path in paths]
    resized = _resize(headers, wanted)
    return RawSet(
        title=", ".join(path.name for path in paths),
        images=FolderImages(paths, wanted),
        labels=None,
        class_names=(),
        scale=1 / 255,
        resize=resized,
        notes=_notes(headers, wanted, resized, 0),
    )


class FolderImages:
    """Image files that are decoded, converted and resized on demand.

    Args:
        paths: The files.
        shape: Channels (1 is grey, 3 is RGB), height and width wanted.
    """

    def __init__(self, paths: Sequence[Path], shape: Shape) -> None:
        self._paths = tuple(paths)
        self._shape = shape

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width after conversion and resize."""
        return self._shape

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, indices: Indices) -> npt.NDArray[np.generic]:
        """The images at these places: uint8 of shape (len(indices), C, H, W)."""
        out = np.empty((len(indices), *self._shape), np.uint8)
        for place, index in enumerate(indices):
            out[place] = self._load_one(self._paths[index])
        return out

    def _load_one(self, path: Path) -> npt.NDArray[np.generic]:
        with _opened(path) as image:
            pixels: npt.NDArray[np.generic] = np.asarray(image.convert(_MODE[self._shape[0]]))
        planes = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        sized: npt.NDArray[np.generic] = resize(planes[np.newaxis], self._shape[1:])[0]
        return sized


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]
    mode: str
    transparent: bool


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Open an image file; every error that Pillow raises while it is open names the file."""
    from PIL import Image

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    damage = (SyntaxError, ValueError, EOFError, IndexError, struct.error, *bombs)
    with reading(path, "an image", *damage), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", "Palette images with Transparency")  # it is dropped, with a note
        with Image.open(path) as image:
            yield image


def _header(path: Path) -> _Header:
    with _opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"the image's values are not bytes (Pillow calls its mode {image.mode})",
                where=str(path),
                why="only you can decide how to scale them to 0..255",
                hint="convert the images to 8 bits per channel, or save the values as an npz",
            )
        transparent = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
        return _Header(size=(image.height, image.width), mode=image.mode, transparent=transparent)


def _classes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError("no such folder", where=str(folder), hint="check the path after the colon of --data")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images_below(folder: Path) -> tuple[list[Path], int]:
    """The sorted images in a folder and its subfolders, and how many other files they hold."""
    files = [Path(root, name) for root, _, names in os.walk(folder) for name in names if not name.startswith(".")]
    images = sorted(path for path in files if path.suffix.lower() in ENDINGS and path.is_file())
    return images, len(files) - len(images)


def _check_classes(folder: Path, classes: Sequence[Path], files: Sequence[tuple[list[Path], int]]) -> None:
    if not classes:
        raise DataError(
            "no class folders in it",
            where=str(folder),
            why="the folder that an image is in names its class",
            hint=f"{folder}/cat/1.png, {folder}/dog/2.png, and so on",
        )
    empty = [path.name for path, (found, _) in zip(classes, files, strict=True) if not found]
    if empty:
        raise DataError(
            f"no images in class folder{'s' * (len(empty) > 1)} {', '.join(empty)}",
            where=str(folder),
            hint=f"remove folders that are not classes; images end in {' '.join(sorted(ENDINGS))}",
        )


def _common_shape(headers: Sequence[_Header], folder: Path) -> Shape:
    sizes = {header.size for header in headers}
    if len(sizes) > 1:
        raise DataError(
            f"images of {len(sizes)} sizes, and no model's size to resize them to",
            where=str(folder),
            hint="give --input-shape, as in --input-shape 3x96x96",
        )
    return (1 if all(header.mode in _GREY_MODES for header in headers) else 3, *sizes.pop())


def _resize(headers: Sequence[_Header], shape: Shape) -> Resize | None:
    sizes = {header.size for header in headers}
    if sizes == {shape[1:]}:
        return None
    return Resize(source=sizes.pop() if len(sizes) == 1 else None, size=shape[1:])


def _notes(headers: Sequence[_Header], shape: Shape, resized: Resize | None, others: int) -> tuple[str, ...]:
    kind = "grey" if shape[0] == 1 else "RGB"
    converted = sum((header.mode in _GREY_MODES) != (shape[0] == 1) for header in headers)
    transparent = sum(header.transparent for header in headers)
    notes = [
        f"{converted:,} of {len(headers):,} images converted to {kind}" if converted else "",
        f"transparency dropped from {transparent:,} images" if transparent else "",
        f"images resized {_from(resized)}to {by(shape[1:])} (bilinear)" if resized else "",
        f"{others:,} files that are not images skipped" if others else "",
    ]
    return tuple(note for note in notes if note)


def _from(resized: Resize) -> str:
    return f"from {by(resized.source)} " if resized.source else ""
