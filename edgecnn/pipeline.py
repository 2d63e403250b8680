"""From a module to a bundle: capture, witness, write."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn import __version__
from edgecnn.bundle import (
    Bundle,
    Golden,
    InputSpec,
    NewArtifact,
    OutputSpec,
    Source,
    check_destination,
    layout_name,
    write_bundle,
)
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import CaptureError, DataError, ModelError, UsageError
from edgecnn.formats import FORMATS, PRECISIONS, check_choice
from edgecnn.graph.graph import Graph
from edgecnn.graph.verify import batch_is_free
from edgecnn.parity.metrics import relative_error
from edgecnn.samples import Samples, calibration_samples, random_samples

if TYPE_CHECKING:
    import torch

    from edgecnn.capture.reference import TorchReference
    from edgecnn.export.written import Written

WITNESS_LIMIT = 1e-5
"""How far the graph in float32 may stray from the module, as a share of the output's range."""


def export_model(
    module: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any,
    directory: str | Path,
    *,
    formats: Sequence[str] = FORMATS,
    precisions: Sequence[str] = PRECISIONS,
    calibration: Any = None,
    name: str | None = None,
    opset: int = 17,
    preprocessing: Preprocessing | None = None,
    class_labels: Sequence[str] = (),
    source: Source | None = None,
    force: bool = False,
) -> Bundle:
    """Export a torch model to a bundle: artifacts, manifest and golden vectors in one folder.

    Args:
        module: Any ``nn.Module`` of supported operators, exported in eval mode and left as it was; or an exported
            program, whose own inputs count and ``example_inputs`` may be None.
        example_inputs: A float32 tensor (batch, ...) or a tuple of them, one per argument of ``forward``. The first
            sample's shape is what counts; the artifacts' batch can be resized.
        directory: Where the bundle goes; a bundle or an empty folder there is replaced.
        formats: ``onnx``, ``tflite``.
        precisions: ``fp32``.
        calibration: Data as the model sees it; golden inputs are taken from it. An array (samples, ...), or an iterable
            of batches, or :class:`~edgecnn.samples.Samples`. Without it they are random with a fixed seed.
        name: The model's name, which its files bear; by default the class's in lower case.
        opset: The ONNX opset.
        preprocessing: What makes the first input from a raw image; noted in the manifest.
        class_labels: What the scores of the first output stand for; noted in the manifest.
        source: Where the model comes from; noted in the manifest.
        force: Replace a folder that holds other things too.

    Returns:
        The bundle, as :func:`edgecnn.load_bundle` would read it.

    Raises:
        UsageError: if a name, format or precision is not known.
        ModelError: if the module does not run on the inputs.
        CaptureError: if it cannot be traced, or uses unsupported operators (all of them are listed).
        LoweringError: if a format cannot express it.
        DataError: if calibration data does not fit.
        BundleError: if the folder cannot be replaced or written. Nothing is changed then.
    """
    formats = check_choice("formats", formats, FORMATS)
    check_choice("precisions", precisions, PRECISIONS)
    name = check_name(name or _class_name(module))
    check_destination(directory, force=force)
    graph, reference = capture_model(module, example_inputs)
    samples = calibration if isinstance(calibration, Samples) else _samples(calibration, graph)
    outputs = reference_outputs(graph, reference, samples)
    _check_labels(samples, outputs[0])
    written = {form: _export(graph, form, opset) for form in formats}
    return write_bundle(
        directory,
        name=name,
        source=source or Source(model=_class_name(module)),
        inputs=_input_specs(graph, written, preprocessing),
        outputs=_output_specs(graph, written, class_labels),
        batch_resizable=batch_is_free(graph),
        artifacts=[_artifact(name, form, w) for form, w in written.items()],
        golden=Golden(
            inputs={i.name: a for i, a in zip(graph.inputs, samples.inputs, strict=True)},
            outputs={"fp32": {o.name: a for o, a in zip(graph.outputs, outputs, strict=True)}},
            labels=samples.labels,
        ),
        golden_origin=samples.origin,
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


def capture_model(
    module: torch.nn.Module | torch.export.ExportedProgram, example_inputs: Any
) -> tuple[Graph, TorchReference]:
    """The graph of a module or exported program, and the thing itself as the reference.

    Raises:
        ModelError: if the module does not run on the inputs.
        CaptureError: if it cannot be traced, or uses unsupported operators.
    """
    import torch

    from edgecnn.capture.capture import capture, capture_program, program_batch
    from edgecnn.capture.reference import TorchReference

    if isinstance(module, torch.export.ExportedProgram):
        return capture_program(module), TorchReference(module, program_batch(module))
    tensors = _example_tensors(example_inputs)
    if module.training:
        warnings.warn("the module is in train mode; it is exported in eval mode", UserWarning, stacklevel=3)
    graph = capture(module, tensors)
    return graph, TorchReference(module, None if batch_is_free(graph) else 1)


def reference_outputs(graph: Graph, reference: TorchReference, samples: Samples) -> list[Any]:
    """What the reference says to the samples, once the graph itself has said the same.

    The graph executed in float is the second witness: where it differs from the module, capture is at fault and no file
    is written. A module that mixes the samples of a batch is asked one sample at a time.

    Raises:
        CaptureError: if the graph and the module disagree, or the module gives NaN or infinities.
    """
    try:
        outputs = reference(samples.inputs)
        error = _witness(graph, samples, outputs)
    except ModelError:
        if reference.batch is not None:
            raise
        error = np.inf
    if not error <= WITNESS_LIMIT and reference.batch is None:
        reference.batch = 1
        outputs = reference(samples.inputs)
        error = _witness(graph, samples, outputs)
    if not all(np.isfinite(o).all() for o in outputs):
        raise CaptureError(
            f"the model itself gives NaN or infinities on the golden inputs ({samples.origin})",
            hint="look at its weights and at the range of its inputs; --data gives it inputs of the right range",
        )
    if not error <= WITNESS_LIMIT:
        raise CaptureError(
            f"the captured graph differs from the model by {error:.1e} of the output's range",
            why="the model is random, keeps state, mixes the samples of its batch, or meets a fault of edgecnn",
            hint="run it twice on one input of batch 1; if it says the same both times, please report this",
        )
    return outputs


def _witness(graph: Graph, samples: Samples, outputs: Sequence[Any]) -> float:
    from edgecnn.golden.float import execute_float

    if batch_is_free(graph):
        values = execute_float(graph, samples.inputs)
    else:
        rows = [execute_float(graph, [a[i : i + 1] for a in samples.inputs]) for i in range(len(samples.inputs[0]))]
        values = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    errors = [relative_error(values[o.value], ref) for o, ref in zip(graph.outputs, outputs, strict=True)]
    return float(np.max(errors))


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


def _example_tensors(example_inputs: Any) -> list[torch.Tensor]:
    import torch

    given = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    tensors = [t if isinstance(t, torch.Tensor) else torch.as_tensor(np.asarray(t)) for t in given]
    for i, t in enumerate(tensors):
        if t.dtype != torch.float32 or t.dim() == 0 or not len(t):
            raise UsageError(
                f"example input {i} is {str(t.dtype).removeprefix('torch.')} of shape {tuple(t.shape)}",
                hint="a float32 tensor with the batch as first axis, such as torch.randn(1, 3, 32, 32)",
            )
    return [t[:1].contiguous() for t in tensors]


def _samples(calibration: Any, graph: Graph) -> Samples:
    shapes = [i.shape for i in graph.inputs]
    return random_samples(shapes) if calibration is None else calibration_samples(calibration, shapes)


def _export(graph: Graph, form: str, opset: int) -> Written:
    if form == "onnx":
        from edgecnn.export.onnx.export import export_onnx

        return export_onnx(graph, version=__version__, opset=opset)
    from edgecnn.export.tflite.export import export_tflite

    return export_tflite(graph, version=__version__)


def _artifact(name: str, form: str, written: Written) -> NewArtifact:
    return NewArtifact(
        file=f"{name}.fp32.{form}",
        format=form,
        precision="fp32",
        data=written.data,
        operators=written.operators,
        notes=written.notes,
    )


def _input_specs(graph: Graph, written: dict[str, Written], preprocessing: Preprocessing | None) -> list[InputSpec]:
    specs = []
    for i, value in enumerate(graph.inputs):
        axes = {form: w.axes[value.name] for form, w in written.items()}
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


def _output_specs(graph: Graph, written: dict[str, Written], class_labels: Sequence[str]) -> list[OutputSpec]:
    specs = []
    for i, output in enumerate(graph.outputs):
        shape = graph.shapes[output.value]
        fits = i == 0 and len(shape) == 2 and shape[1] == len(class_labels)
        specs.append(
            OutputSpec(
                name=output.name,
                shape=shape,
                dtype="float32",
                axes={form: w.axes[output.name] for form, w in written.items()},
                class_labels=tuple(class_labels) if fits else (),
            )
        )
    return specs


def _versions(formats: Sequence[str]) -> dict[str, str]:
    import torch

    packages = ["numpy", *(["onnx"] if "onnx" in formats else []), *(["ai-edge-litert"] if "tflite" in formats else [])]
    return {"edgecnn": __version__, "torch": str(torch.__version__)} | {p: installed_version(p) for p in packages}
