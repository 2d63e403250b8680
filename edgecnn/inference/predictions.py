"""Classify images with an artifact of a bundle: classes and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.bundle import REFERENCE, Artifact, Bundle
from edgecnn.data.image_folders import read_images
from edgecnn.data.npz import read_npy, read_npz
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.data.raw import RawSet, Shape, by
from edgecnn.errors import DataError, TargetError, UsageError
from edgecnn.parity.runner import Runner
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.target import Target
from edgecnn.types import Array

BATCH = 32
TOLERANCE = 0.02
"""Largest difference of a sum of probabilities from 1; int8 probabilities have steps of 1/256."""
FEW_LEVELS = 64
"""Raw data that never exceeds this value is not bytes of an image, unless its scale is that of bytes."""
_SIGMOIDS = frozenset(("LOGISTIC", "Sigmoid", "QLinearSigmoid"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A class: its index, its label (made from the index if the bundle has no labels), and its score."""

    index: int
    label: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The best classes of one image, best first."""

    image: str
    best: tuple[Score, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The predictions of an artifact on a target.

    Attributes:
        target: The target's name.
        version: The runtime's version.
        artifact: The artifact's file name.
        scores: ``softmax`` if the scores are the softmax of the outputs; ``outputs`` if they are the outputs.
        predictions: One for each image.
        notes: Notes of the runtime.
    """

    target: str
    version: str
    artifact: str
    scores: str
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The value for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Inputs of a model, (images, channels, height, width) float32, the names of the images, and notes."""

    names: tuple[str, ...]
    inputs: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()


def load_images(bundle: Bundle, paths: Sequence[Path]) -> Images:
    """Read images and preprocess them as the manifest says.

    Args:
        bundle: The bundle.
        paths: Image files of any size and format that Pillow reads, and ``.npz`` and ``.npy`` files of raw images.

    Raises:
        UsageError: if the model does not take one image.
        DataError: if a file cannot be read, or does not fit.
    """
    shape, done, notes = _input(bundle)
    highest = _highest(bundle, done)
    if highest and any(path.suffix not in _READERS for path in paths):
        notes.append(f"the bytes of image files are scaled to 0..{highest:g}, the range of the model's own data")
    names: list[str] = []
    parts: list[npt.NDArray[np.float32]] = []
    for path in paths:
        _check_file(path)
        raw = _READERS.get(path.suffix, _read_image)(path, shape)
        values = raw.images.load(np.arange(len(raw.images)))
        if highest and path.suffix not in _READERS:
            values = values.astype(np.float32) * np.float32(highest / 255)
        parts.append(done.apply(values))
        one = len(raw.images) == 1
        names += [str(path)] if one else [f"{path}, image {i}" for i in range(len(raw.images))]
        notes += [f"{path}: {note}" for note in raw.notes]
    return Images(names=tuple(names), inputs=np.concatenate(parts), notes=tuple(notes))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a folder", hint=f"its files: {path}/*.png")
    if not path.exists():
        raise DataError(f"there is no file {path}", hint="the path of an image")


def _read_image(path: Path, shape: Shape) -> RawSet:
    return read_images([path], shape)


_READERS: Mapping[str, Callable[[Path, Shape], RawSet]] = MappingProxyType({".npz": read_npz, ".npy": read_npy})


def _highest(bundle: Bundle, done: Preprocessing) -> float:
    """The highest raw value of the model's own data if it has few levels and not the scale of bytes, else 0."""
    if bundle.manifest.inputs[0].preprocessing is None or abs(done.scale * 255 - 1) < 0.01:
        return 0
    highest = float(done.undo(bundle.golden().inputs[bundle.manifest.inputs[0].name]).max())
    return highest if 1 <= highest <= FEW_LEVELS else 0


def _input(bundle: Bundle) -> tuple[Shape, Preprocessing, list[str]]:
    inputs = bundle.manifest.inputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = " and ".join(by(i.shape[1:]) for i in inputs)
        raise UsageError(f"the model takes {shapes}, not one image", hint="edgecnn check runs its golden inputs")
    _, channels, height, width = inputs[0].shape
    done = inputs[0].preprocessing
    if done is not None:
        return (channels, height, width), done, []
    note = "the bundle does not say how its inputs are made from images: bytes are scaled by 1/255, no mean, no std"
    return (channels, height, width), Preprocessing(scale=1 / 255), [note]


def check_precision(bundle: Bundle, precision: str | None) -> None:
    """Refuse a precision that the bundle does not have.

    Raises:
        UsageError: naming the precisions that it has.
    """
    there = list(dict.fromkeys(a.precision for a in bundle.artifacts))
    if precision is not None and precision not in there:
        raise UsageError(f"the bundle has no {precision} artifact", where=str(bundle.directory), hint=", ".join(there))


def choose_artifact(bundle: Bundle, target: Target, precision: str | None) -> Artifact:
    """The artifact for a target: of the given precision, else fp32, else the first one that it can run.

    Raises:
        UsageError: if there is none.
    """
    row = RUNTIMES[target.runtime]
    runs = [a for a in bundle.artifacts if a.format in row.formats and a.precision not in row.lacks]
    fitting = [a for a in runs if a.precision == (precision or REFERENCE)] or ([] if precision else runs)
    if not fitting:
        has = ", ".join(a.path.name for a in bundle.artifacts)
        raise UsageError(
            f"{target.name} has nothing to run" + (f" in {precision}" if precision else ""),
            where=str(bundle.directory),
            why=f"{target.runtime} runs {' and '.join(row.formats)}, the bundle has {has}",
            hint="another --target or --precision",
        )
    return fitting[0]


def predict(
    bundle: Bundle, images: Images, target: Target, *, top: int = 3, precision: str | None = None
) -> Predictions:
    """Classify images on a target.

    Args:
        bundle: The bundle.
        images: The images from `load_images`.
        target: Where to run.
        top: How many of the best classes to return.
        precision: The precision of the artifact; None for the choice of `choose_artifact`.

    Raises:
        UsageError: if the target runs no artifact of the bundle, or the model does not give a row of scores.
        TargetError: if the target fails, or returns NaN.
    """
    artifact = choose_artifact(bundle, target, precision)
    _check_scores(bundle)
    label = artifact.path.name
    with target.open(artifact.read(), label) as session:
        runner, inputs = Runner(bundle, artifact, session), images.inputs
        parts = [runner.infer([inputs[i : i + BATCH]])[0] for i in range(0, len(inputs), BATCH)]
        version, notes = session.version, session.notes
    outputs = np.concatenate(parts)
    if not np.isfinite(outputs).all():
        raise TargetError(f"{label} gives NaN or infinity on {target.name}", hint=f"edgecnn check {bundle.directory}")
    logits = not are_probabilities(outputs, artifact)
    scores = softmax(outputs) if logits else outputs.astype(np.float64)
    labels = bundle.manifest.outputs[0].class_labels
    return Predictions(
        target=target.name,
        version=version,
        artifact=label,
        scores="softmax" if logits else "outputs",
        predictions=tuple(
            Prediction(image=name, best=_best(row, labels, top)) for name, row in zip(images.names, scores, strict=True)
        ),
        notes=tuple(notes),
    )


def _check_scores(bundle: Bundle) -> None:
    shape = bundle.manifest.outputs[0].shape
    if len(shape) != 2 or shape[1] < 2:
        raise UsageError(f"the model's first output is {by(shape[1:])}, no row of scores", hint="edgecnn check")


def are_probabilities(outputs: Array, artifact: Artifact) -> bool:
    """Whether outputs are probabilities: from 0 to 1, and with sum 1 or from an artifact with a sigmoid."""
    if outputs.min() < 0 or outputs.max() > 1:
        return False
    sums = outputs.astype(np.float64).sum(axis=1)
    return bool((np.abs(sums - 1) <= TOLERANCE).all()) or bool(_SIGMOIDS & set(artifact.operators))


def softmax(logits: Array) -> npt.NDArray[np.float64]:
    """The softmax of each row."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    rows: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return rows


def _best(row: npt.NDArray[np.float64], labels: Sequence[str], top: int) -> tuple[Score, ...]:
    order = np.argsort(-row, kind="stable")[:top]
    return tuple(Score(index=int(i), label=labels[i] if labels else f"class {i}", score=float(row[i])) for i in order)
