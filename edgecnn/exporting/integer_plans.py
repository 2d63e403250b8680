"""Plans of the precisions whose ranges are taken from calibration data: int8 and int16x8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy.typing as npt

from edgecnn.bundle import QuantizationSpec, TensorQuantization
from edgecnn.data.calibration import Calibration
from edgecnn.exporting.precision_plan import Plan, PlanInputs
from edgecnn.parity.golden_rules import STANDS_FOR
from edgecnn.targets.runtimes.rounding_rules import REFERENCE_RULE

if TYPE_CHECKING:
    from edgecnn.quantize.calibrated import QuantizedModel

Outputs = Mapping[str, npt.NDArray[Any]]


def plan_int8(given: PlanInputs) -> Plan:
    """The int8 program, and its outputs by the rule of every runtime."""
    from edgecnn.export.onnx.int8.saturation import saturation_of_file
    from edgecnn.quantize.calibrated import quantize_graph

    observed, data = given.calibrated()
    program = quantize_graph(observed, data, given.recipe)
    takes_bytes = observed.bytes_in
    samples = data if takes_bytes is None else takes_bytes.calibration(data)
    saturation = saturation_of_file(program.quantized, samples.golden.inputs)
    spec = _int8_spec(program, given.options.io, saturation.risky)
    golden = program.golden(given.golden_inputs, roundings=(REFERENCE_RULE, *STANDS_FOR))
    return Plan(
        precision="int8",
        options=given.options,
        graph=given.graph,
        quantized=program.quantized,
        golden=golden[REFERENCE_RULE],
        other_golden=_differing(golden),
        spec=spec,
        format_specs={"onnx": msgspec.structs.replace(spec, saturating=saturation.in_file)},
        notes=(*program.quantized.notes, *_note_on_random(data), *_note_on_uint8(program)),
        format_notes={"onnx": (saturation.summary(),)},
    )


def _note_on_uint8(program: QuantizedModel) -> tuple[str, ...]:
    """That a setting of the recipe has no effect on other files than ONNX's."""
    if not program.quantized.uint8_weights:
        return ()
    return ("uint8 weights are in .onnx files only; other files are those of the recipe without them",)


def _differing(golden: Mapping[str, Outputs]) -> dict[str, Outputs]:
    """The outputs by rules that no other rule stands for; those of TFLite's reference rounding in any case."""
    return {
        rule: golden[rule]
        for rule, other in STANDS_FOR.items()
        if rule == "gemmlowp" or any((golden[rule][name] != golden[other][name]).any() for name in golden[rule])
    }


def _int8_spec(program: QuantizedModel, io: Any, saturating: tuple[str, ...]) -> QuantizationSpec:
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


def plan_int16x8(given: PlanInputs) -> Plan:
    """The int16x8 program and its outputs."""
    from edgecnn.golden.integer16 import execute_int16
    from edgecnn.quantize.quantize16 import quantize_int16

    observed, data = given.calibrated()
    program = quantize_int16(observed.graph, observed.observers)
    graph, scales = program.graph, program.activations
    integers = [scales[i.name].quantize(a) for i, a in zip(graph.inputs, given.golden_inputs, strict=True)]
    values = execute_int16(program, integers)

    def tensor(value: str) -> TensorQuantization:
        return TensorQuantization(scale=float(scales[value].scale), zero_point=0)

    return Plan(
        precision="int16x8",
        options=given.options,
        graph=given.graph,
        int16=program,
        golden={o.name: values[o.value] for o in graph.outputs},
        spec=QuantizationSpec(
            recipe="int16x8",
            calibration=data.origin,
            samples=data.samples,
            inputs={i.name: tensor(i.name) for i in graph.inputs},
            outputs={o.name: tensor(o.value) for o in graph.outputs},
            exact=False,
        ),
        notes=_note_on_random(data),
    )


def _note_on_random(data: Calibration) -> tuple[str, ...]:
    if not data.origin.startswith("random"):
        return ()
    why = "its ranges say little about real inputs, so accuracy is worth nothing; calibrate with data"
    return (f"calibrated with {data.origin}: {why}",)
