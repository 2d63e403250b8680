"""From what a user names (a model, weights, a data set) to a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import UsageError
from edgecnn.export.formats import FORMATS, formats_with

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle, ModelSource
    from edgecnn.data.calibration import Calibration
    from edgecnn.data.dataset import Dataset
    from edgecnn.data.preprocessing import Preprocessing
    from edgecnn.loading import LoadedModel

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataChoice:
    """A data set as it is named, and what is done to its images; None leaves what is usual."""

    spec: str
    split: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is to be exported, and how.

    Attributes:
        model: A zoo name, ``file.py:callable``, ``package.module:callable`` or a ``.pt2`` file.
        weights: The file of its state dict.
        arguments: Of its class or function.
        shapes: Of its inputs without the batch; empty where the model or the data tells.
        data: The data set that golden inputs and int8 ranges come from.
        folder: Where relative names of models and data start; None for the current folder.
        name: That the files bear; by default the model's.
        formats: As `edgecnn.export_model` has it, and so are all that follow.
        precisions: Likewise.
        calibration: ``random``, without data.
        calibration_samples: Likewise.
        recipe: Likewise.
        io: Likewise.
        c_array: Likewise.
        opset: Likewise.
        force: Likewise.
    """

    model: str
    weights: Path | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    data: DataChoice | None = None
    folder: Path | None = None
    name: str | None = None
    formats: tuple[str, ...] = FORMATS
    precisions: tuple[str, ...] = ("fp32",)
    calibration: str | None = None
    calibration_samples: int | None = None
    recipe: str | None = None
    io: str = "float32"
    c_array: bool = False
    opset: int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A new bundle, the model and the data that it was made from, and what the user should hear."""

    bundle: Bundle
    model: LoadedModel
    data: Dataset | None
    notes: tuple[str, ...]


def export_request(
    request: ExportRequest, directory: Path, *, progress: Callable[[str, int, int], None] | None = None
) -> Exported:
    """Load what is named, and export it.

    Raises:
        EdgecnnError: As `edgecnn.loading.load_module`, `load_data` and `edgecnn.export_model` say.
    """
    refuse_idle_options(request)
    from edgecnn.bundle import check_destination
    from edgecnn.loading import load_module

    check_destination(directory, force=request.force)
    from edgecnn.exporting.export_model import check_name, export_model

    if request.name is not None:
        check_name(request.name)
    model = load_module(
        request.model, arguments=request.arguments, weights=request.weights, folder=request.folder or Path()
    )
    data, shapes = data_and_shapes(model, request)
    bundle = export_model(
        model.program or model.module,
        None if model.program else example_zeros(shapes),
        directory,
        formats=request.formats,
        precisions=request.precisions,
        calibration=request.calibration if data is None else data_calibration(data, shapes, request),
        calibration_samples=request.calibration_samples if data is None else None,
        recipe=request.recipe,
        io=request.io,
        c_array=request.c_array,
        name=request.name or model.name,
        opset=request.opset or 17,
        preprocessing=None if data is None else data.preprocessing,
        class_labels=() if data is None else data.class_names,
        source=_source(request),
        force=request.force,
        progress=progress,
    )
    notes = (*model.notes, *([data.note] if data is not None and data.note else []))
    return Exported(bundle=bundle, model=model, data=data, notes=notes)


def refuse_idle_options(request: ExportRequest, *, spell: Callable[[str], str] | None = None) -> None:
    """Refuse options that what is asked for makes no use of.

    Args:
        request: What is asked for.
        spell: How the user writes an option; by default as the command line has it.

    Raises:
        UsageError: naming them.
    """
    write = spell or (lambda name: f"--{name.replace('_', '-')}")

    def refuse(names: Sequence[str], without: str, hint: str) -> None:
        idle = [write(name) for name in names if getattr(request, name) is not None]
        if idle:
            raise UsageError(f"{', '.join(idle)} {without} has no effect", hint=hint)

    precisions, formats = write("precisions"), write("formats")
    if not {"int8", "int16x8"} & set(request.precisions):
        ranges = ("calibration", "calibration_samples")
        refuse(ranges, "without int8 or int16x8", f"{precisions} fp32,int8, or leave it out")
    if "int8" not in request.precisions:
        refuse(["recipe"], "without int8", f"{precisions} fp32,int8, or leave it out")
    if request.data is not None:
        refuse(["calibration"], f"beside {write('data')}", "one of the two")
    with_opset = formats_with("opset")
    if not {row.name for row in with_opset} & set(request.formats):
        titles = " or ".join(row.title for row in with_opset)
        refuse(["opset"], f"without {titles}", f"{formats} {','.join(FORMATS)}, or leave it out")


def input_shapes(model: LoadedModel, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Input shapes: as given, else as the model says.

    Raises:
        UsageError: if neither says, or shapes are given for a program, which has its own.
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
    noted: Preprocessing | None = None,
    folder: Path | None = None,
) -> Dataset:
    """The data set of a name, fitted to the model's one input.

    Args:
        spec: As ``--data`` takes it.
        shapes: The model's input shapes without the batch, or None if they are not known yet.
        split: The part.
        scale: Factor; None for what is noted, or the data's usual one.
        mean: Subtracted; likewise.
        std: Divided by; likewise.
        noted: The preprocessing that a bundle was exported with.
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
    if noted is not None:
        scale = noted.scale if scale is None else scale
        mean = noted.mean if mean is None else mean
        std = noted.std if std is None else std
    return load_dataset(spec, input_shape=shape, split=split, scale=scale, mean=mean, std=std, folder=folder or Path())


def data_and_shapes(model: LoadedModel, request: ExportRequest) -> tuple[Dataset | None, tuple[Shape, ...]]:
    """The data set, if one is named, fitted to the model; and the model's input shapes without the batch.

    Raises:
        UsageError: if the model's input shape is not known, or no image.
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
    """A sample of zeros for each input, to trace a model with."""
    import torch

    return tuple(torch.zeros(1, *shape) for shape in shapes)


def data_calibration(data: Dataset, shapes: Sequence[Shape], request: ExportRequest) -> Calibration:
    """Golden inputs from the data as asked for; ranges from the training part where shipped data is asked for whole."""
    from edgecnn.data.calibration import BATCH, CALIBRATION, GOLDEN, Calibration, Samples
    from edgecnn.data.shipped import SHIPPED

    places = data.spread(GOLDEN)
    labels = None if data.labels is None else data.labels[places]
    golden = Samples(inputs=(data.batch(places),), labels=labels, origin=data.name)
    source, choice = data, request.data
    if choice is not None and choice.spec in SHIPPED and choice.split is None:
        source = load_data(choice.spec, shapes, split="train", scale=choice.scale, mean=choice.mean, std=choice.std)
    used = source.take(source.spread(request.calibration_samples or CALIBRATION))
    return Calibration(
        batches=lambda: ((images,) for images, _ in used.batches(BATCH)),
        samples=len(used),
        origin=used.name,
        golden=golden,
    )


def _source(request: ExportRequest) -> ModelSource:
    from edgecnn.bundle import ModelSource, WeightsFile

    weights = request.weights
    noted = {k: v if isinstance(v, str | int | float | bool | None) else repr(v) for k, v in request.arguments.items()}
    file = WeightsFile(file=weights.name, sha256=hashlib.sha256(weights.read_bytes()).hexdigest()) if weights else None
    return ModelSource(model=request.model, weights=file, arguments=noted)
