"""From a module to a bundle: capture, check the capture, quantize, write."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn._version import __version__
from edgecnn.bundle import (
    Bundle,
    Golden,
    InputSpec,
    ModelSource,
    NewArtifact,
    OutputSpec,
    Program,
    check_destination,
    layout_name,
    write_bundle,
)
from edgecnn.data.calibration import Calibration, Samples, random_samples, read_calibration
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import DataError, UsageError
from edgecnn.export.formats import FORMATS, format_of
from edgecnn.exporting.capture_check import capture_model, reference_outputs
from edgecnn.exporting.export_options import (
    C_ARRAY_SOURCE,
    DEFAULT_CALIBRATION_SAMPLES,
    DEFAULT_OPSET,
    DEFAULT_RECIPE,
    ExportOptions,
    option_has_effect,
    refuse_impossible,
    refuse_without_effect,
)
from edgecnn.exporting.precision_plan import Plan
from edgecnn.exporting.precisions import plan_precisions
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ArgMax
from edgecnn.graph.verify import batch_is_free
from edgecnn.targets.runtimes import session_settings
from edgecnn.types import Progress

if TYPE_CHECKING:
    import torch

    from edgecnn.export.written import Written

Key = tuple[str, str]
"""Format and precision."""


def export_model(
    module: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any,
    directory: str | Path,
    *,
    formats: Sequence[str] = FORMATS,
    precisions: Sequence[str] = ("fp32",),
    calibration: Any = None,
    calibration_samples: int | None = None,
    recipe: str | None = None,
    io: str = "float32",
    c_array: bool = False,
    name: str | None = None,
    opset: int = DEFAULT_OPSET,
    preprocessing: Preprocessing | None = None,
    class_labels: Sequence[str] = (),
    source: ModelSource | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Export a torch model to a bundle: artifacts, manifest and golden vectors in one folder.

    Args:
        module: Any ``nn.Module`` of supported operators, exported in eval mode and left unchanged; or an exported
            program, which has inputs of its own, so that ``example_inputs`` may be None.
        example_inputs: A float32 tensor (batch, ...) or a tuple of them, one per argument of ``forward``. Only the
            first sample's shape matters; the batch of the artifacts can be resized.
        directory: Where to write the bundle; replaces a bundle or an empty folder there.
        formats: ``onnx``, ``tflite``.
        precisions: ``fp32``, ``fp16``, ``int8``, and in TFLite ``int8-dynamic`` and ``int16x8``.
        calibration: Data as the model sees it, which int8 ranges and golden inputs are taken from. An array (samples,
            ...), an iterable of batches, an :class:`edgecnn.Calibration`, or ``"random"``. Without it int8 is refused,
            and golden inputs are random with a fixed seed.
        calibration_samples: Most samples to calibrate with, by default 256.
        recipe: How int8 is made: ``int8`` (the default), ``int8-portable``, ``int8-uint8-weights``, ``int8-7bit``,
            ``int8-per-channel``, or the path of a TOML file.
        io: Type of the inputs and outputs of int8 files: ``float32``, as in the float files, ``int8``, or ``uint8``.
            With ``uint8`` and ``preprocessing`` the file takes a camera's bytes: scale, mean and std are folded in
            exactly, or refused.
        c_array: Write the int8 TFLite file as C source too, ``NAME.h`` and ``NAME.cc``.
        name: The model's name, with which the names of its files begin; by default the class name in lower case.
        opset: The opset of ONNX files.
        preprocessing: How a raw image becomes the first input; recorded in the manifest.
        class_labels: The classes that the first output scores, in order; recorded in the manifest.
        source: Where the model comes from; recorded in the manifest.
        force: Replace a folder even if it holds other things.
        progress: Receives what runs, how many calibration samples are done, and how many there are.

    Returns:
        The bundle, as :func:`edgecnn.load_bundle` would read it.

    Raises:
        UsageError: if a name, format or precision is not known, or an argument is given that has no effect.
        ModelError: if the module does not run on the inputs.
        CaptureError: if it cannot be traced, or uses unsupported operators (all of them are listed).
        LoweringError: if a format cannot express it.
        QuantizationError: if it cannot be quantized, or there is nothing to calibrate with.
        DataError: if calibration data does not fit.
        BundleError: if the folder cannot be replaced or written. Nothing is changed then.
    """
    given_data = None if isinstance(calibration, str) else calibration
    options = ExportOptions(
        formats=tuple(formats),
        precisions=tuple(precisions),
        recipe=recipe,
        calibration=calibration if isinstance(calibration, str) else None,
        calibration_samples=calibration_samples,
        io=io,
        c_array=c_array,
        opset=opset if option_has_effect("opset", formats) else None,  # code that exports TFLite alone may pass it
    )
    refuse_without_effect(options, with_data=given_data is not None)
    if isinstance(calibration, Calibration) and calibration_samples is not None:
        raise UsageError(
            "calibration_samples has no effect on a Calibration",
            why="a Calibration says itself how many samples it has",
            hint="leave it out, or give an array or batches",
        )
    return export_with_options(
        module,
        example_inputs,
        directory,
        options,
        data=given_data,
        name=name,
        preprocessing=preprocessing,
        class_labels=class_labels,
        source=source,
        force=force,
        progress=progress,
    )


def export_with_options(
    module: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any,
    directory: str | Path,
    options: ExportOptions,
    *,
    data: Any = None,
    name: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_labels: Sequence[str] = (),
    source: ModelSource | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Export a torch model as options say; what `export_model` and `edgecnn export` have in common.

    Args:
        module: As `export_model`.
        example_inputs: As `export_model`.
        directory: As `export_model`.
        options: How to export.
        data: Calibration data: an array, batches, or a :class:`~edgecnn.data.calibration.Calibration`, whose samples
            are already chosen.
        name: As `export_model`.
        preprocessing: As `export_model`.
        class_labels: As `export_model`.
        source: As `export_model`.
        force: As `export_model`.
        progress: As `export_model`.

    Raises:
        EdgecnnError: as `export_model` says.
    """
    name = check_name(name or _class_name(module))
    refuse_impossible(options, calibrated=data is not None or options.calibration is not None)
    check_destination(directory, force=force)
    graph, reference = capture_model(module, example_inputs)
    shapes = [i.shape for i in graph.inputs]
    calibration = _calibration(data if data is not None else options.calibration, shapes, options)
    samples = random_samples(shapes) if calibration is None else calibration.golden
    outputs = reference_outputs(graph, reference, samples)
    _check_labels(samples, outputs[0])
    plans = plan_precisions(
        graph,
        options.precisions,
        calibration,
        recipe=options.recipe or DEFAULT_RECIPE,
        opset=options.opset or DEFAULT_OPSET,
        golden_inputs=samples.inputs,
        io=options.io,
        preprocessing=preprocessing,
        progress=progress,
    )
    formats = options.formats
    written = {(f, plan.precision): plan.write(f) for plan in plans for f in formats}
    artifacts = [_artifact(name, plan, f, written[f, plan.precision]) for plan in plans for f in formats]
    if options.c_array:
        from edgecnn.exporting.c_array import C_FORMATS, c_artifacts

        file = written[C_ARRAY_SOURCE]
        artifacts += c_artifacts(file.data, name, class_labels)
        written |= {(form, C_ARRAY_SOURCE[1]): file for form in C_FORMATS}
    golden = {"fp32": {o.name: a for o, a in zip(graph.outputs, outputs, strict=True)}}
    golden |= {plan.precision: dict(plan.golden) for plan in plans if plan.golden is not None}
    golden |= {f"{plan.precision}-{rule}": dict(own) for plan in plans for rule, own in plan.other_golden.items()}
    return write_bundle(
        directory,
        name=name,
        source=source or ModelSource(model=_class_name(module)),
        inputs=_input_specs(graph, written, preprocessing),
        outputs=_output_specs(graph, written, class_labels),
        batch_resizable=batch_is_free(graph),
        artifacts=artifacts,
        golden=Golden(
            inputs={i.name: a for i, a in zip(graph.inputs, samples.inputs, strict=True)},
            outputs=golden,
            labels=samples.labels,
        ),
        golden_origin=samples.origin,
        program=Program(
            graph=graph,
            quantized=next((plan.quantized for plan in plans if plan.quantized is not None), None),
            int16=next((plan.int16 for plan in plans if plan.int16 is not None), None),
            digests={a.file: hashlib.sha256(a.data).hexdigest() for a in artifacts},
        ),
        versions=_versions(formats),
        force=force,
    )


def _check_labels(samples: Samples, output: Any) -> None:
    if samples.labels is None or output.ndim != 2 or samples.labels.max() < output.shape[1]:
        return
    raise DataError(
        f"the data has the label {samples.labels.max()}, the model has {output.shape[1]} outputs",
        hint="labels from 0 to one less than the model's outputs, or data without labels",
    )


def check_name(name: str) -> str:
    """A model's name as a plain file name.

    Raises:
        UsageError: if it holds anything but letters, digits, ``_``, ``-`` and ``.``.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise UsageError(
            f"{name!r} cannot name a model", hint="a name of letters, digits, '_', '-' and '.', such as my_net"
        )
    return name


def _class_name(module: Any) -> str:
    name = type(module).__name__
    if name == "ExportedProgram":
        return "model"
    return re.sub(r"[^a-z0-9_.-]", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).lstrip("_.-") or "model"


def _calibration(given: Any, shapes: Sequence[tuple[int, ...]], options: ExportOptions) -> Calibration | None:
    if given is None or isinstance(given, Calibration):
        return given
    return read_calibration(given, shapes, options.calibration_samples or DEFAULT_CALIBRATION_SAMPLES)


def _artifact(name: str, plan: Plan, form: str, written: Written) -> NewArtifact:
    spec = plan.format_specs.get(form, plan.spec)
    return NewArtifact(
        file=f"{name}.{plan.precision}.{form}",
        format=form,
        precision=plan.precision,
        data=written.data,
        operators=written.operators,
        notes=(*written.notes, *plan.notes, *plan.format_notes.get(form, ())),
        quantization=spec,
        session=session_settings(form) if spec is not None and spec.saturating else {},
    )


def _input_specs(graph: Graph, written: Mapping[Key, Written], preprocessing: Preprocessing | None) -> list[InputSpec]:
    specs = []
    for i, value in enumerate(graph.inputs):
        axes = {form: w.axes[value.name] for (form, _), w in written.items()}
        specs.append(
            InputSpec(
                name=value.name,
                shape=value.shape,
                dtype="float32",
                axes=axes,
                layouts={form: layout_name(a) for form, a in axes.items()},
                preprocessing=preprocessing if i == 0 else None,
            )
        )
    return specs


def _is_position(graph: Graph, value: str) -> bool:
    node = graph.producers.get(value)
    return node is not None and isinstance(node.op, ArgMax)


def _output_specs(graph: Graph, written: Mapping[Key, Written], class_labels: Sequence[str]) -> list[OutputSpec]:
    specs = []
    for i, output in enumerate(graph.outputs):
        shape = graph.shapes[output.value]
        fits = i == 0 and len(shape) == 2 and shape[1] == len(class_labels)
        specs.append(
            OutputSpec(
                name=output.name,
                shape=shape,
                dtype="int64" if _is_position(graph, output.value) else "float32",
                axes={form: w.axes[output.name] for (form, _), w in written.items()},
                class_labels=tuple(class_labels) if fits else (),
            )
        )
    return specs


def _versions(formats: Sequence[str]) -> dict[str, str]:
    import torch

    packages = ["numpy", *(format_of(form).package for form in formats)]
    return {"edgecnn": __version__, "torch": str(torch.__version__)} | {p: installed_version(p) for p in packages}
