"""A part of an artifact as a bundle of its own: cut out of the file as it is, or exported anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgecnn.bundle import (
    REFERENCE,
    Artifact,
    Bundle,
    Golden,
    InputSpec,
    NewArtifact,
    OutputSpec,
    Program,
    QuantizationSpec,
    TensorQuantization,
    layout_name,
    write_bundle,
)
from edgecnn.errors import BundleError
from edgecnn.export.written import Place
from edgecnn.graph.ops import ArgMax, ValueName
from edgecnn.locate import edit_onnx, edit_tflite
from edgecnn.locate.extract_subgraph import End, cut_onnx, cut_tflite
from edgecnn.locate.reexport import Twin, make_twin
from edgecnn.locate.subgraph import Part, expected_outputs, resizable
from edgecnn.locate.tap_outputs import Points
from edgecnn.parity.exactness import is_exact
from edgecnn.parity.rounding import STANDS_FOR
from edgecnn.types import Array

Kind = Literal["cut", "anew"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A part's file: its bytes, its operators, how inputs and outputs are stored, and as what."""

    data: bytes
    operators: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]
    io: str


def boundaries(twin: Twin, points: Points, artifact: Artifact, data: bytes) -> dict[ValueName, list[Place]]:
    """Where a file can be cut: for each value the tensors that hold it as it is, the likelier to be cut at first.

    The file's own inputs and outputs come first, so that what lies between them and the first integers stays in the
    part; then integers, since a float in front of an integer operator would keep a runtime from fusing the two.
    """
    found: dict[ValueName, list[Place]] = {}
    for value, place in _ends(twin, artifact, data):
        found.setdefault(value, []).append(place)
    shapes = twin.graph.shapes
    whole = [  # with its own axes, and no channels beside its own
        p for p in points.points if not p.place.shape and p.place.channels in (0, *shapes[p.value][1:2])
    ]
    plain = [p for p in whole if p.place.form in ("real", "integers")]
    for point in sorted(plain, key=lambda p: (not p.output, p.place.form != "integers")):
        found.setdefault(point.value, []).append(point.place)
    return found


def _ends(twin: Twin, artifact: Artifact, data: bytes) -> list[tuple[ValueName, Place]]:
    """The file's own inputs."""
    spec = artifact.spec.quantization
    io = "float32" if spec is None else spec.io
    if artifact.format == "onnx":
        known = {t.name for t in edit_onnx.parsed(data).graph.initializer}
        tensors: list[Any] = [i.name for i in edit_onnx.parsed(data).graph.input if i.name not in known]
    else:
        tensors = [int(i) for i in edit_tflite.parsed(data).subgraphs[0].inputs]
    form: Any = "real" if io == "float32" else "integers"
    return [
        (i.name, Place(tensor=t, axes=twin.written.axes[i.name], form=form, offset=128 if io == "uint8" else 0))
        for i, t in zip(twin.graph.inputs, tensors, strict=True)
    ]


def cut_out(part: Part, artifact: Artifact, data: bytes, places: Mapping[ValueName, Sequence[Place]]) -> Made:
    """The part cut out of the artifact itself.

    Raises:
        BundleError: if the file has no tensor to cut at, or inputs would be of different types.
    """
    sides = [[i.name for i in part.graph.inputs], [o.value for o in part.graph.outputs]]
    lost = [v for side in sides for v in side if not places.get(v)]
    if lost:
        raise BundleError(f"the file cannot be cut at {lost[0]}: no tensor holds it as it is")
    kinds = [[(p.form, p.offset) for p in places[v]] for v in sides[0]]
    common = [kind for kind in kinds[0] if all(kind in others for others in kinds)]
    if not common:
        raise BundleError("the file cannot be cut there: some inputs are integers, others are not")
    taken = [places[v][k.index(common[0])] for v, k in zip(sides[0], kinds, strict=True)]
    given = [places[v][0] for v in sides[1]]
    ends = [[_end(part, v, p) for v, p in zip(sides[0], taken, strict=True)]]
    ends.append([_end(part, v, p) for v, p in zip(sides[1], given, strict=True)])
    edit: Any = edit_onnx if artifact.format == "onnx" else edit_tflite
    cut = (cut_onnx if artifact.format == "onnx" else cut_tflite)(data, *ends, batch_free=resizable(part))
    axes = {v: p.axes for v, p in zip(sides[0], taken, strict=True)}
    axes |= {o.name: p.axes for o, p in zip(part.graph.outputs, given, strict=True)}
    io = "float32" if common[0][0] == "real" else "uint8" if common[0][1] else "int8"
    return Made(data=cut, operators=Counter(kind for kind, _ in edit.operators(cut)), axes=axes, io=io)


def _end(part: Part, value: ValueName, place: Place) -> End:
    shape = part.graph.shapes[value]
    dtype = "float32" if place.form == "real" else "uint8" if place.offset else "int8"
    return End(place.tensor, dtype, tuple(shape[a] for a in place.axes))


def export_anew(part: Part, artifact: Artifact, data: bytes, version: str) -> Made:
    """The part exported as a model of its own.

    Raises:
        EdgecnnError: if the format cannot express it.
    """
    spec = artifact.spec.quantization
    plain = None if spec is None else msgspec.structs.replace(spec, io="float32")
    like = replace(artifact, spec=msgspec.structs.replace(artifact.spec, quantization=plain))
    written = make_twin(like, Program(graph=part.graph, quantized=part.quantized), data, version=version).written
    return Made(data=written.data, operators=written.operators, axes=written.axes, io="float32")


def write_part(
    directory: Path,
    part: Part,
    made: Made,
    bundle: Bundle,
    artifact: Artifact,
    inputs: Mapping[ValueName, Array],
    note: str,
    *,
    force: bool = False,
) -> Bundle:
    """Write a part as a bundle.

    Args:
        directory: Where.
        part: The part.
        made: Its file.
        bundle: The whole that it is of.
        artifact: The artifact that it is of.
        inputs: What the part is fed with: real numbers (samples, ...), by name.
        note: What it is, for the manifest.
        force: Replace a folder that holds other things too.

    Raises:
        BundleError: if a value cannot be a model's input or output, or the folder cannot be written.
    """
    manifest = bundle.manifest
    golden = {REFERENCE: expected_outputs(part, inputs)}
    if artifact.precision == "fp16":
        golden["fp16"] = golden[REFERENCE]
    if part.quantized is not None:
        golden["int8"] = expected_outputs(part, inputs, "half_even_fp32")
        golden |= {f"int8-{rule}": expected_outputs(part, inputs, rule) for rule in STANDS_FOR}
    new = NewArtifact(
        file=artifact.path.name,
        format=artifact.format,
        precision=artifact.precision,
        data=made.data,
        operators=made.operators,
        notes=(note,),
        quantization=_spec(part, made, artifact),
    )
    return write_bundle(
        directory,
        name=manifest.name,
        source=manifest.source,
        inputs=_input_specs(part, made, artifact.format),
        outputs=_output_specs(part, made, artifact.format),
        batch_resizable=resizable(part),
        artifacts=[new],
        golden=Golden(inputs={i.name: inputs[i.name] for i in part.graph.inputs}, outputs=golden),
        golden_origin=f"{manifest.golden.origin}, as the reference has them there",
        program=Program(graph=part.graph, quantized=part.quantized),
        versions=manifest.versions,
        force=force,
    )


def _input_specs(part: Part, made: Made, form: str) -> list[InputSpec]:
    return [
        InputSpec(
            name=i.name,
            shape=i.shape,
            dtype="float32",
            axes={form: made.axes[i.name]},
            layouts={form: layout_name(made.axes[i.name])},
        )
        for i in part.graph.inputs
    ]


def _output_specs(part: Part, made: Made, form: str) -> list[OutputSpec]:
    return [
        OutputSpec(
            name=o.name,
            shape=part.graph.shapes[o.value],
            dtype="int64" if isinstance(part.graph.producers[o.value].op, ArgMax) else "float32",
            axes={form: made.axes[o.name]},
        )
        for o in part.graph.outputs
    ]


def _spec(part: Part, made: Made, artifact: Artifact) -> QuantizationSpec | None:
    spec, q = artifact.spec.quantization, part.quantized
    if spec is None or q is None:
        return spec

    def tensor(value: ValueName) -> TensorQuantization:
        params = q.activations[value]
        return TensorQuantization(scale=float(params.scale), zero_point=params.zero_point)

    names = set(part.nodes)
    return msgspec.structs.replace(
        spec,
        inputs={i.name: tensor(i.name) for i in part.graph.inputs},
        outputs={o.name: tensor(o.value) for o in part.graph.outputs},
        exact=is_exact(q),
        float_layers=tuple(n for n in spec.float_layers if n in names),
        io=made.io,
        raw_bytes=False,
        saturating=tuple(n for n in spec.saturating if n in names),
    )


def some_samples(inputs: Mapping[ValueName, Array], places: Sequence[int]) -> dict[ValueName, Array]:
    """Some samples of the inputs."""
    return {name: np.ascontiguousarray(array[list(places)]) for name, array in inputs.items()}
