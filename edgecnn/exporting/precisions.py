"""What each precision is made of: how its files are written, what they are to say, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn._version import __version__
from edgecnn.bundle import QuantizationSpec, TensorQuantization
from edgecnn.data.calibration import Calibration
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import QuantizationError, UsageError
from edgecnn.export.formats import check_offered
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.parity.rounding import STANDS_FOR
from edgecnn.targets.runtimes.rounding import REFERENCE_RULE

if TYPE_CHECKING:
    from edgecnn.program.int16 import QuantizedGraph16
    from edgecnn.program.quantized import QuantizedGraph
    from edgecnn.quantize.calibrated import Observed, Program

Arrays = Sequence[npt.NDArray[np.float32]]
IO = ("float32", "int8", "uint8")
"""Types that inputs and outputs of int8 files can have."""
CALIBRATED = ("int8", "int16x8")
"""Precisions whose ranges are taken from calibration data."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One precision of one model.

    Attributes:
        precision: Its name.
        write: Makes the file of a format.
        golden: What its files are to say to the golden inputs, by output, where that is known exactly.
        quantized: The int8 program that its files hold.
        int16: The int16x8 program that its file holds.
        other_golden: The same for runtimes that round by other rules, by the rule's name.
        spec: How it was quantized, for the manifest.
        notes: What the user should know.
        format_notes: What the user should know of one format.
    """

    precision: str
    write: Callable[[str], Written]
    golden: Mapping[str, npt.NDArray[Any]] | None = None
    quantized: QuantizedGraph | None = None
    int16: QuantizedGraph16 | None = None
    other_golden: Mapping[str, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)
    spec: QuantizationSpec | None = None
    notes: tuple[str, ...] = ()
    format_notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def check_precisions(
    formats: Sequence[str], precisions: Sequence[str], *, calibrated: bool, io: str = "float32"
) -> None:
    """Refuse, before any work, what a format does not offer, what cannot be calibrated, and io that means nothing.

    Raises:
        UsageError: if a format does not offer a precision.
        QuantizationError: if there is no calibration data for a precision that needs it.
    """
    for form in formats:
        for precision in precisions:
            check_offered(form, precision)
    if io not in IO:
        raise UsageError(f"io {io!r} is not known", hint=f"one of: {', '.join(IO)}")
    if io != "float32" and "int8" not in precisions:
        raise UsageError(f"--io {io} concerns int8 files, and none is asked for", hint="--precisions int8")
    needy = [p for p in precisions if p in CALIBRATED]
    if needy and not calibrated:
        raise QuantizationError(
            f"{needy[0]} needs calibration data: the ranges of the model's values are taken from it",
            hint="--data DATA (in Python calibration=...), or calibration 'random' to try the mechanics only",
        )


def refuse_idle(
    precisions: Sequence[str], *, calibration: Any = None, calibration_samples: int | None = None, recipe: str | None
) -> None:
    """Refuse arguments that say how something is quantized that is not asked for.

    Data without a precision to calibrate is welcome: golden inputs are taken from it. The word ``random`` is not data.

    Raises:
        UsageError: if an argument has no effect.
    """
    idle = []
    if not set(precisions) & set(CALIBRATED):
        idle += ["calibration_samples"] if calibration_samples is not None else []
        idle += ["calibration='random'"] if isinstance(calibration, str) else []
    if recipe is not None and "int8" not in precisions:
        idle.append("recipe")
    if isinstance(calibration, Calibration) and calibration_samples is not None:
        raise UsageError(
            "calibration_samples beside a Calibration has no effect",
            why="a Calibration says itself how many samples it has",
            hint="leave it out, or give an array or batches",
        )
    if idle:
        raise UsageError(
            f"{', '.join(idle)} without int8 has no effect",
            where=f"precisions={tuple(precisions)!r}",
            why="it says how int8 files are made, and none is asked for",
            hint='precisions=("fp32", "int8"), or leave it out',
        )


def plan_precisions(
    graph: Graph,
    precisions: Sequence[str],
    data: Calibration | None,
    *,
    recipe: str,
    opset: int,
    golden_inputs: Arrays,
    io: str = "float32",
    preprocessing: Preprocessing | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Plan]:
    """A plan for each precision; the calibration data is run over once for all of them.

    Raises:
        UsageError: if there is no such recipe, or it does not fit the model.
        DataError: if a value becomes NaN or infinite on the data.
        QuantizationError: if an operator, a weight or a bias has no such form.
    """
    observed = None
    if data is not None and set(precisions) & set(CALIBRATED):
        bytes_of = preprocessing if io == "uint8" else None
        if bytes_of is not None and "int16x8" in precisions:
            raise UsageError("int16x8 takes no bytes", hint="--io float32, or int8 alone")
        from edgecnn.quantize.calibrated import observe_graph

        observed = observe_graph(graph, data, recipe, bytes_of=bytes_of, progress=progress)
    plans = []
    for precision in precisions:
        if precision == "fp32":
            plans.append(Plan(precision=precision, write=lambda form: _write_fp32(graph, form, opset)))
        elif precision == "fp16":
            plans.append(_fp16(graph, opset, golden_inputs))
        elif precision == "int8-dynamic":
            plans.append(Plan(precision=precision, write=lambda _form: _write_dynamic(graph)))
        elif observed is not None and data is not None:
            if precision == "int8":
                plans.append(_int8(observed, data, recipe, opset, golden_inputs, io))
            else:
                plans.append(_int16x8(observed, data, golden_inputs))
    return plans


def _write_fp32(graph: Graph, form: str, opset: int) -> Written:
    if form == "onnx":
        from edgecnn.export.onnx.export import export_onnx

        return export_onnx(graph, version=__version__, opset=opset)
    from edgecnn.export.tflite.export import export_tflite

    return export_tflite(graph, version=__version__)


def _fp16(graph: Graph, opset: int, inputs: Arrays) -> Plan:
    from edgecnn.golden.batches import execute_samples
    from edgecnn.program.half_weights import half_weights

    def write(form: str) -> Written:
        if form == "onnx":
            from edgecnn.export.onnx.fp16 import export_onnx_fp16

            return export_onnx_fp16(graph, version=__version__, opset=opset)
        from edgecnn.export.tflite.fp16 import export_tflite_fp16

        return export_tflite_fp16(graph, version=__version__)

    values = execute_samples(half_weights(graph), inputs)
    return Plan(precision="fp16", write=write, golden={o.name: values[o.value] for o in graph.outputs})


def _write_dynamic(graph: Graph) -> Written:
    from edgecnn.export.tflite.dynamic import export_tflite_int8_dynamic

    return export_tflite_int8_dynamic(graph, version=__version__)


def _int8(observed: Observed, data: Calibration, recipe: str, opset: int, inputs: Arrays, io: str) -> Plan:
    from edgecnn.export.onnx.int8.saturation import saturation_of_file
    from edgecnn.quantize.calibrated import quantize_graph

    program = quantize_graph(observed, data, recipe)
    taken = observed.bytes_in
    samples = data if taken is None else taken.calibration(data)
    saturation = saturation_of_file(program.quantized, samples.golden.inputs)
    golden = program.golden(inputs, roundings=(REFERENCE_RULE, *STANDS_FOR))

    def write(form: str) -> Written:
        if form == "onnx":
            from edgecnn.export.onnx.export import export_onnx_int8

            return export_onnx_int8(program.quantized, version=__version__, opset=opset, io=io)
        from edgecnn.export.tflite.export import export_tflite_int8

        return export_tflite_int8(program.quantized, version=__version__, io=io)

    return Plan(
        precision="int8",
        write=write,
        golden=golden[REFERENCE_RULE],
        quantized=program.quantized,
        other_golden=_differing(golden),
        spec=_int8_spec(program, io, saturation.risky),
        notes=(*program.quantized.notes, *_random_note(data)),
        format_notes={"onnx": (saturation.summary(),)},
    )


def _differing(golden: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> dict[str, Mapping[str, npt.NDArray[Any]]]:
    """What rules say that another one does not stand for; TFLite's reference rounding in any case."""
    return {
        rule: golden[rule]
        for rule, other in STANDS_FOR.items()
        if rule == "gemmlowp" or any((golden[rule][name] != golden[other][name]).any() for name in golden[rule])
    }


def _int8_spec(program: Program, io: Any, saturating: tuple[str, ...]) -> QuantizationSpec:
    from edgecnn.parity.exactness import is_exact

    graph, params = program.quantized.graph, program.quantized.activations

    def tensor(value: str) -> TensorQuantization:
        return TensorQuantization(scale=float(params[value].scale), zero_point=params[value].zero_point)

    return QuantizationSpec(
        recipe=program.recipe,
        calibration=program.origin,
        samples=program.samples,
        inputs={i.name: tensor(i.name) for i in graph.inputs},
        outputs={o.name: tensor(o.value) for o in graph.outputs},
        exact=is_exact(program.quantized),
        float_layers=tuple(sorted(program.quantized.skipped)),
        io=io,
        raw_bytes=program.bytes_in is not None,
        saturating=saturating,
    )


def _int16x8(observed: Observed, data: Calibration, inputs: Arrays) -> Plan:
    from edgecnn.export.tflite.int16 import export_tflite_int16x8
    from edgecnn.golden.int16 import execute_int16
    from edgecnn.quantize.int16 import quantize_int16

    quantized = quantize_int16(observed.graph, observed.observers)
    graph, scales = quantized.graph, quantized.activations
    values = execute_int16(quantized, [scales[i.name].quantize(a) for i, a in zip(graph.inputs, inputs, strict=True)])

    def tensor(value: str) -> TensorQuantization:
        return TensorQuantization(scale=float(scales[value].scale), zero_point=0)

    return Plan(
        precision="int16x8",
        write=lambda _form: export_tflite_int16x8(quantized, version=__version__),
        golden={o.name: values[o.value] for o in graph.outputs},
        int16=quantized,
        spec=QuantizationSpec(
            recipe="int16x8",
            calibration=data.origin,
            samples=data.samples,
            inputs={i.name: tensor(i.name) for i in graph.inputs},
            outputs={o.name: tensor(o.value) for o in graph.outputs},
            exact=False,
        ),
        notes=_random_note(data),
    )


def _random_note(data: Calibration) -> tuple[str, ...]:
    if not data.origin.startswith("random"):
        return ()
    why = "its ranges say little about real inputs, so accuracy is worth nothing; calibrate with data"
    return (f"calibrated with {data.origin}: {why}",)
