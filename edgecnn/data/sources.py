"""Load the data set that ``--data`` names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgecnn.data.dataset import Dataset, Indices
from edgecnn.data.idx import read_idx
from edgecnn.data.image_folders import read_folder
from edgecnn.data.npz import read_npz
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.data.raw import RawSet, Shape
from edgecnn.data.shipped import SHIPPED
from edgecnn.data.split import Split, given_part, is_split, part
from edgecnn.errors import UsageError

FORMS = ("digits", "scenes", "npz:FILE", "idx:IMAGES,LABELS", "folder:DIR")
"""The forms of a specification."""


def load_dataset(
    spec: str,
    *,
    input_shape: Shape | None,
    split: str | None = None,
    scale: float | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    seed: int = 0,
    folder: Path = Path(),
) -> Dataset:
    """Load a data set and fit it to a model.

    Args:
        spec: "digits", "scenes", "npz:FILE", "idx:IMAGES,LABELS", "idx:IMAGES" or "folder:DIR".
        input_shape: The model's channels, height and width. Images of another height and width are resized, and
            ``note`` says so. None keeps their own size.
        split: "train", "test" (a fifth of each class, held out) or "all". None is "test" for the digits and the
            scenes, which the zoo's models are trained on, and "all" for everything else.
        scale: Factor for raw values; None for 1/16 for the digits, 1/255 for bytes and scenes, else 1.
        mean: Subtracted after scaling, one value or one per channel; None for 0.
        std: Divided by after that, one value or one per channel; None for 1.
        seed: Seed of the choice of held-out images. Use one seed for training and testing.
        folder: Where relative paths start.

    Raises:
        UsageError: if ``spec`` or ``split`` is not one of these.
        DataError: if the data cannot be read, or does not fit the model.
    """
    which = _default_split(spec) if split is None else split
    if not is_split(which):
        raise UsageError(f"there is no part {which!r} of a data set", hint="train, test or all")
    raw = _read(spec, input_shape, folder)
    count = len(raw.images)
    members = part(which, raw.labels, count, seed) if raw.held_out is None else given_part(which, raw.held_out, count)
    return Dataset(
        name=_name(raw, which, members),
        spec=spec,
        class_names=raw.class_names,
        labels=None if raw.labels is None else raw.labels[members],
        preprocessing=_preprocessing(raw, scale, mean, std),
        note="; ".join(raw.notes),
        source=raw.images,
        members=members,
        truth=raw.truth,
    )


def _default_split(spec: str) -> Split:
    return "test" if spec in SHIPPED else "all"


def _read(spec: str, wanted: Shape | None, start: Path) -> RawSet:
    form, colon, rest = spec.partition(":")
    if form in SHIPPED and not colon:
        return SHIPPED[form](wanted)
    if form in READERS and rest:
        return READERS[form](rest, start, wanted)
    raise UsageError(f"{spec!r} is not a data set", hint=_suggestion(spec, start))


def _read_idx_pair(rest: str, start: Path, wanted: Shape | None) -> RawSet:
    images, _, labels = rest.partition(",")
    return read_idx(start / images, start / labels if labels else None, wanted)


Reader = Callable[[str, Path, Shape | None], RawSet]
"""(what follows the colon, the folder where relative paths start, the model's input shape) -> raw images."""
READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "npz": lambda rest, start, wanted: read_npz(start / rest, wanted),
        "idx": _read_idx_pair,
        "folder": lambda rest, start, wanted: read_folder(start / rest, wanted),
    }
)
"""What reads ``FORM:REST``, by form."""


def _suggestion(spec: str, start: Path) -> str:
    path = start / spec
    if spec and path.is_dir():
        return f"folder:{spec}"
    if path.suffix == ".npz":
        return f"npz:{spec}"
    near = difflib.get_close_matches(spec.partition(":")[0], [form.partition(":")[0] for form in FORMS], n=1)
    likely = [form for form in FORMS if form.partition(":")[0] in near]
    return (likely[0] + ", or " if likely else "") + "one of " + ", ".join(form for form in FORMS if form not in likely)


def _preprocessing(
    raw: RawSet, scale: float | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Preprocessing:
    preprocessing = Preprocessing(
        scale=raw.scale if scale is None else scale,
        mean=(0.0,) if mean is None else mean,
        std=(1.0,) if std is None else std,
        resize=raw.resize,
    )
    preprocessing.apply(np.empty((0, *raw.images.input_shape), np.float32))  # raises if the channels do not fit
    return preprocessing


def _name(raw: RawSet, split: Split, members: Indices) -> str:
    whole = len(raw.images)
    match split:
        case "train":
            return f"{raw.title} (training part, {len(members):,} of {whole:,})"
        case "test":
            return f"{raw.title} (held-out {len(members):,} of {whole:,})"
        case "all":
            return f"{raw.title} ({whole:,} images)"
