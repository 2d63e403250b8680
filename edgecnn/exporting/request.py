"""From what a user names (a model, weights, a data set) to a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import UsageError
from edgecnn.exporting.export_options import (
    DEFAULT_CALIBRATION_SAMPLES,
    ExportOptions,
    Spelling,
    on_command_line,
    refuse_impossible,
    refuse_without_effect,
)

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle, ModelSource
    from edgecnn.data.calibration import Calibration
    from edgecnn.data.dataset import Dataset
    from edgecnn.data.preprocessing import Preprocessing
    from edgecnn.loading import LoadedModel
    from edgecnn.types import Progress

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataChoice:
    """A data set by its name, and how its images are prepared; None where the default holds."""

    spec: str
    split: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """A model to export, by its name, and how to export it.

    Attributes:
        model: A zoo name, ``file.py:callable``, ``package.module:callable`` or a ``.pt2`` file.
        weights: The file of its state dict.
        arguments: Arguments of its class or function.
        shapes: Shapes of its inputs without the batch; empty where the model or the data has them.
        data: The data set that golden inputs and int8 ranges come from.
        folder: Where relative names of models and data start; None for the current folder.
        name: The name that its files have; None for the model's own.
        options: How to export it.
        force: Replace a folder even if it holds other things.
    """

    model: str
    weights: Path | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    data: DataChoice | None = None
    folder: Path | None = None
    name: str | None = None
    options: ExportOptions = field(default_factory=ExportOptions)
    force: bool = False

    def check(self, spelling: Spelling = on_command_line) -> None:
        """Refuse options that would have no effect.

        Args:
            spelling: How the user writes an option.

        Raises:
            UsageError: naming the options.
        """
        refuse_without_effect(self.options, with_data=self.data is not None, spelling=spelling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A new bundle, the model and the data it was made from, and notes for the user."""

    bundle: Bundle
    model: LoadedModel
    data: Dataset | None
    notes: tuple[str, ...]


def export_request(request: ExportRequest, directory: Path, *, progress: Progress | None = None) -> Exported:
    """Load the model and the data that a request names, and export the model.

    Raises:
        EdgecnnError: As `edgecnn.loading.load_module`, `load_data` and `edgecnn.export_model` say.
    """
    # Everything that can be refused without torch is refused before torch is imported.
    request.check()
    options = request.options
    refuse_impossible(options, calibrated=request.data is not None or options.calibration is not None)
    from edgecnn.bundle import check_destination
    from edgecnn.loading import load_module

    check_destination(directory, force=request.force)
    from edgecnn.exporting.export_model import check_name, export_with_options

    if request.name is not None:
        check_name(request.name)
    model = load_module(
        request.model, arguments=request.arguments, weights=request.weights, folder=request.folder or Path()
    )
    data, shapes = data_and_shapes(model, request)
    bundle = export_with_options(
        model.program or model.module,
        None if model.program else example_zeros(shapes),
        directory,
        options,
        data=None if data is None else data_calibration(data, shapes, request),
        name=request.name or model.name,
        preprocessing=None if data is None else data.preprocessing,
        class_labels=() if data is None else data.class_names,
        source=_source(request),
        force=request.force,
        progress=progress,
    )
    notes = (*model.notes, *([data.note] if data is not None and data.note else []))
    return Exported(bundle=bundle, model=model, data=data, notes=notes)


def input_shapes(model: LoadedModel, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """The input shapes without the batch: the given ones, else those that the model declares.

    Raises:
        UsageError: if there are neither, or shapes are given for a program, which has its own.
    """
    if shapes and model.program is not None:
        raise UsageError("a .pt2 program has its input shapes already", hint="leave --input-shape out")
    if shapes:
        return tuple(shapes)
    if model.input_shapes:
        return model.input_shapes
    raise UsageError("the shape of the model's input is not known", hint="--input-shape 3x64x64 (without the batch)")


def load_data(
    spec: str,
    shapes: Sequence[Shape] | None,
    *,
    split: str | None = None,
    scale: float | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    recorded: Preprocessing | None = None,
    folder: Path | None = None,
) -> Dataset:
    """The data set of a name, fitted to the model's one input.

    Args:
        spec: The name, as for ``--data``.
        shapes: The model's input shapes without the batch, or None if they are not known yet.
        split: The part: ``train``, ``test`` or ``all``; None for the default of the data set.
        scale: Factor for raw values; None for that of ``recorded``, or the default of the data set.
        mean: Subtracted after scaling; None as for ``scale``.
        std: Divided by after that; None as for ``scale``.
        recorded: The preprocessing that a bundle was exported with.
        folder: Where relative paths start; None for the current folder.

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
    if recorded is not None:
        scale = recorded.scale if scale is None else scale
        mean = recorded.mean if mean is None else mean
        std = recorded.std if std is None else std
    return load_dataset(spec, input_shape=shape, split=split, scale=scale, mean=mean, std=std, folder=folder or Path())


def data_and_shapes(model: LoadedModel, request: ExportRequest) -> tuple[Dataset | None, tuple[Shape, ...]]:
    """The data set, if one is named, fitted to the model; and the model's input shapes without the batch.

    Raises:
        UsageError: if the model's input shape is not known, or is not that of an image.
        DataError: if the data cannot be read or does not fit.
    """
    choice = request.data
    if choice is None:
        return None, input_shapes(model, request.shapes)
    known = input_shapes(model, request.shapes) if request.shapes or model.input_shapes else None
    data = load_data(
        choice.spec,
        known,
        split=choice.split,
        scale=choice.scale,
        mean=choice.mean,
        std=choice.std,
        folder=request.folder,
    )
    return data, known or (data.input_shape,)


def example_zeros(shapes: Sequence[Shape]) -> tuple[Any, ...]:
    """One sample of zeros for each input, to trace a model with."""
    import torch

    return tuple(torch.zeros(1, *shape) for shape in shapes)


def data_calibration(data: Dataset, shapes: Sequence[Shape], request: ExportRequest) -> Calibration:
    """Golden inputs and calibration samples from a data set.

    For shipped data without a chosen split, the golden inputs are from the test part and the calibration samples from
    the training part.
    """
    from edgecnn.data.calibration import BATCH, GOLDEN, Calibration, Samples
    from edgecnn.data.shipped import SHIPPED

    places = data.spread(GOLDEN)
    labels = None if data.labels is None else data.labels[places]
    golden = Samples(inputs=(data.batch(places),), labels=labels, origin=data.name)
    source, choice = data, request.data
    if choice is not None and choice.spec in SHIPPED and choice.split is None:
        source = load_data(choice.spec, shapes, split="train", scale=choice.scale, mean=choice.mean, std=choice.std)
    used = source.take(source.spread(request.options.calibration_samples or DEFAULT_CALIBRATION_SAMPLES))
    return Calibration(
        batches=lambda: ((images,) for images, _ in used.batches(BATCH)),
        samples=len(used),
        origin=used.name,
        golden=golden,
    )


def _source(request: ExportRequest) -> ModelSource:
    from edgecnn.bundle import ModelSource, WeightsFile

    weights = request.weights
    plain = {k: v if isinstance(v, str | int | float | bool | None) else repr(v) for k, v in request.arguments.items()}
    file = WeightsFile(file=weights.name, sha256=hashlib.sha256(weights.read_bytes()).hexdigest()) if weights else None
    return ModelSource(model=request.model, weights=file, arguments=plain)
