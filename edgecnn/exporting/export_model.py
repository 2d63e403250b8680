"""From a module to a bundle: capture, witness, quantize, write."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
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
from edgecnn.data.calibration import CALIBRATION, Calibration, Samples, random_samples, read_calibration
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import DataError, UsageError
from edgecnn.export.formats import FORMATS, PRECISIONS, check_choice, format_of
from edgecnn.exporting.c_array import C_FORMATS, MADE_FROM, c_artifacts
from edgecnn.exporting.capture_check import capture_model, reference_outputs
from edgecnn.exporting.plan import Plan
from edgecnn.exporting.precisions import check_precisions, plan_precisions, refuse_idle
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ArgMax
from edgecnn.graph.verify import batch_is_free

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
    opset: int = 17,
    preprocessing: Preprocessing | None = None,
    class_labels: Sequence[str] = (),
    source: ModelSource | None = None,
    force: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Bundle:
    """Export a torch model to a bundle: artifacts, manifest and golden vectors in one folder.

    Args:
        module: Any ``nn.Module`` of supported operators, exported in eval mode and left as it was; or an exported
            program, whose own inputs count and ``example_inputs`` may be None.
        example_inputs: A float32 tensor (batch, ...) or a tuple of them, one per argument of ``forward``. The first
            sample's shape is what counts; the artifacts' batch can be resized.
        directory: Where the bundle goes; a bundle or an empty folder there is replaced.
        formats: ``onnx``, ``tflite``.
        precisions: ``fp32``, ``fp16``, ``int8``, and in TFLite ``int8-dynamic`` and ``int16x8``.
        calibration: Data as the model sees it: int8 ranges and golden inputs are taken from it. An array (samples,
            ...), an iterable of batches, :class:`~edgecnn.data.calibration.Calibration`, or ``"random"``. Without it
            int8 is refused, and golden inputs are random with a fixed seed.
        calibration_samples: Most samples to calibrate with, by default 256.
        recipe: How int8 is made: ``int8`` (the default), ``int8-portable``, ``int8-7bit``, ``int8-per-channel``, or the
            path of a TOML file.
        io: Type of the inputs and outputs of int8 files: ``float32`` (as the float files have), ``int8``, or ``uint8``:
            with ``preprocessing`` a camera's bytes go in, scale, mean and std being folded in exactly or refused.
        c_array: Write the int8 TFLite file as C source too, ``NAME.h`` and ``NAME.cc``.
        name: The model's name, which its files bear; by default the class's in lower case.
        opset: The ONNX opset.
        preprocessing: What makes the first input from a raw image; noted in the manifest.
        class_labels: What the scores of the first output stand for; noted in the manifest.
        source: Where the model comes from; noted in the manifest.
        force: Replace a folder that holds other things too.
        progress: Told what runs, the calibration samples done and how many there are.

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
    formats = check_choice("formats", formats, FORMATS)
    precisions = check_choice("precisions", precisions, PRECISIONS)
    name = check_name(name or _class_name(module))
    check_precisions(formats, precisions, calibrated=calibration is not None, io=io)
    refuse_idle(precisions, calibration=calibration, calibration_samples=calibration_samples, recipe=recipe)
    if c_array and not (MADE_FROM[0] in formats and MADE_FROM[1] in precisions):
        raise UsageError(
            f"a C array is made from the {MADE_FROM[1]} {MADE_FROM[0]} file",
            hint=f"--formats {MADE_FROM[0]} --precisions {MADE_FROM[1]}",
        )
    check_destination(directory, force=force)
    graph, reference = capture_model(module, example_inputs)
    shapes = [i.shape for i in graph.inputs]
    data = _calibration(calibration, shapes, calibration_samples or CALIBRATION)
    samples = random_samples(shapes) if data is None else data.golden
    outputs = reference_outputs(graph, reference, samples)
    _check_labels(samples, outputs[0])
    plans = plan_precisions(
        graph,
        precisions,
        data,
        recipe=recipe or "int8",
        opset=opset,
        golden_inputs=samples.inputs,
        io=io,
        preprocessing=preprocessing,
        progress=progress,
    )
    written = {(f, plan.precision): plan.write(f) for plan in plans for f in formats}
    artifacts = [_artifact(name, plan, f, written[f, plan.precision]) for plan in plans for f in formats]
    if c_array:
        file = written[MADE_FROM]
        artifacts += c_artifacts(file.data, name, class_labels)
        written |= {(form, MADE_FROM[1]): file for form in C_FORMATS}
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


def _calibration(given: Any, shapes: Sequence[tuple[int, ...]], count: int) -> Calibration | None:
    if given is None or isinstance(given, Calibration):
        return given
    return read_calibration(given, shapes, count)


def _artifact(name: str, plan: Plan, form: str, written: Written) -> NewArtifact:
    return NewArtifact(
        file=f"{name}.{plan.precision}.{form}",
        format=form,
        precision=plan.precision,
        data=written.data,
        operators=written.operators,
        notes=(*written.notes, *plan.notes, *plan.format_notes.get(form, ())),
        quantization=plan.spec,
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
