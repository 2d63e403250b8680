"""A subgraph of an artifact as a bundle of its own: cut out of the file, or exported again from the program."""

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
from edgecnn.export.editing import End
from edgecnn.export.formats import format_of
from edgecnn.export.written import Place
from edgecnn.graph.ops import ArgMax, ValueName
from edgecnn.locate.reexport import Reexport, reexport_artifact
from edgecnn.locate.subgraph import Subgraph, expected_outputs, resizable
from edgecnn.locate.tap_outputs import Points
from edgecnn.parity.exactness import is_exact
from edgecnn.parity.golden_rules import STANDS_FOR
from edgecnn.targets.runtimes.rounding_rules import REFERENCE_RULE
from edgecnn.types import Array

Kind = Literal["cut", "anew"]
"""How a subgraph's file is made, as JSON has it: cut out of the artifact, or exported again."""
REEXPORTED: Kind = "anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgraphFile:
    """The file of a subgraph.

    Attributes:
        data: Its bytes.
        operators: How many of each operator it holds.
        axes: For each input and output, by name: its axis ``i`` holds the graph's axis ``axes[i]``.
        io: The type of its inputs and outputs: ``float32``, ``int8`` or ``uint8``.
    """

    data: bytes
    operators: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]
    io: str


def boundaries(reexport: Reexport, points: Points, artifact: Artifact, data: bytes) -> dict[ValueName, list[Place]]:
    """Where a file can be cut: for each value the tensors that hold it unchanged, in the order of preference.

    The file's own inputs and outputs come first, so that what lies between them and the first integers stays in the
    subgraph; then integers, since a float in front of an integer operator would keep a runtime from fusing the two.
    """
    found: dict[ValueName, list[Place]] = {}
    for value, place in _input_places(reexport, artifact, data):
        found.setdefault(value, []).append(place)
    shapes = reexport.graph.shapes
    whole = [  # with the value's own axes and no further channels
        p for p in points.points if not p.place.shape and p.place.channels in (0, *shapes[p.value][1:2])
    ]
    plain = [p for p in whole if p.place.form in ("real", "integers")]
    for point in sorted(plain, key=lambda p: (not p.output, p.place.form != "integers")):
        found.setdefault(point.value, []).append(point.place)
    return found


def _input_places(reexport: Reexport, artifact: Artifact, data: bytes) -> list[tuple[ValueName, Place]]:
    """The graph's inputs with the file's own inputs, which hold them."""
    spec = artifact.spec.quantization
    io = "float32" if spec is None else spec.io
    tensors = reexport.descriptor.editor().inputs(data)
    form: Any = "real" if io == "float32" else "integers"
    return [
        (i.name, Place(tensor=t, axes=reexport.written.axes[i.name], form=form, offset=128 if io == "uint8" else 0))
        for i, t in zip(reexport.graph.inputs, tensors, strict=True)
    ]


def extract_from_file(
    subgraph: Subgraph, artifact: Artifact, data: bytes, places: Mapping[ValueName, Sequence[Place]]
) -> SubgraphFile:
    """Cut a subgraph out of the artifact itself.

    Raises:
        BundleError: if the file has no tensor to cut at, or inputs would be of several types.
    """
    sides = [[i.name for i in subgraph.graph.inputs], [o.value for o in subgraph.graph.outputs]]
    lost = [v for side in sides for v in side if not places.get(v)]
    if lost:
        raise BundleError(f"the file cannot be cut at {lost[0]}: no tensor holds it unchanged")
    kinds = [[(p.form, p.offset) for p in places[v]] for v in sides[0]]
    common = [kind for kind in kinds[0] if all(kind in others for others in kinds)]
    if not common:
        raise BundleError("the file cannot be cut there: some inputs are integers, others are not")
    taken = [places[v][k.index(common[0])] for v, k in zip(sides[0], kinds, strict=True)]
    given = [places[v][0] for v in sides[1]]
    ends = [[_end(subgraph, v, p) for v, p in zip(sides[0], taken, strict=True)]]
    ends.append([_end(subgraph, v, p) for v, p in zip(sides[1], given, strict=True)])
    editor = format_of(artifact.format).editor()
    cut = editor.extract(data, *ends, batch_free=resizable(subgraph))
    axes = {v: p.axes for v, p in zip(sides[0], taken, strict=True)}
    axes |= {o.name: p.axes for o, p in zip(subgraph.graph.outputs, given, strict=True)}
    io = "float32" if common[0][0] == "real" else "uint8" if common[0][1] else "int8"
    return SubgraphFile(data=cut, operators=Counter(kind for kind, _ in editor.operators(cut)), axes=axes, io=io)


def _end(subgraph: Subgraph, value: ValueName, place: Place) -> End:
    shape = subgraph.graph.shapes[value]
    dtype = "float32" if place.form == "real" else "uint8" if place.offset else "int8"
    return End(place.tensor, dtype, tuple(shape[a] for a in place.axes))


def reexport_subgraph(subgraph: Subgraph, artifact: Artifact, data: bytes, version: str) -> SubgraphFile:
    """Export a subgraph as a model of its own.

    Raises:
        EdgecnnError: if the format cannot express it.
    """
    spec = artifact.spec.quantization
    plain = None if spec is None else msgspec.structs.replace(spec, io="float32")
    like = replace(artifact, spec=msgspec.structs.replace(artifact.spec, quantization=plain))
    written = reexport_artifact(
        like, Program(graph=subgraph.graph, quantized=subgraph.quantized), data, version=version
    ).written
    return SubgraphFile(data=written.data, operators=written.operators, axes=written.axes, io="float32")


def write_subgraph(
    directory: Path,
    subgraph: Subgraph,
    file: SubgraphFile,
    bundle: Bundle,
    artifact: Artifact,
    inputs: Mapping[ValueName, Array],
    note: str,
    *,
    force: bool = False,
) -> Bundle:
    """Write a subgraph as a bundle.

    Args:
        directory: Where the bundle goes.
        subgraph: The subgraph.
        file: Its file.
        bundle: The bundle that the subgraph is part of.
        artifact: The artifact that the subgraph is part of.
        inputs: The subgraph's golden inputs: real numbers (samples, ...), by name.
        note: What the file is, for the manifest.
        force: Replace a folder that holds other things too.

    Raises:
        BundleError: if a value cannot be a model's input or output, or the folder cannot be written.
    """
    manifest = bundle.manifest
    golden = {REFERENCE: expected_outputs(subgraph, inputs)}
    if artifact.precision == "fp16":
        golden["fp16"] = golden[REFERENCE]
    if subgraph.quantized is not None:
        golden["int8"] = expected_outputs(subgraph, inputs, REFERENCE_RULE)
        golden |= {f"int8-{rule}": expected_outputs(subgraph, inputs, rule) for rule in STANDS_FOR}
    new = NewArtifact(
        file=artifact.path.name,
        format=artifact.format,
        precision=artifact.precision,
        data=file.data,
        operators=file.operators,
        notes=(note,),
        quantization=_spec(subgraph, file, artifact),
        session=artifact.spec.session,
    )
    return write_bundle(
        directory,
        name=manifest.name,
        source=manifest.source,
        inputs=_input_specs(subgraph, file, artifact.format),
        outputs=_output_specs(subgraph, file, artifact.format),
        batch_resizable=resizable(subgraph),
        artifacts=[new],
        golden=Golden(inputs={i.name: inputs[i.name] for i in subgraph.graph.inputs}, outputs=golden),
        golden_origin=f"{manifest.golden.origin}, as the reference computes them there",
        program=Program(graph=subgraph.graph, quantized=subgraph.quantized),
        versions=manifest.versions,
        force=force,
    )


def _input_specs(subgraph: Subgraph, file: SubgraphFile, form: str) -> list[InputSpec]:
    return [
        InputSpec(
            name=i.name,
            shape=i.shape,
            dtype="float32",
            axes={form: file.axes[i.name]},
            layouts={form: layout_name(file.axes[i.name])},
        )
        for i in subgraph.graph.inputs
    ]


def _output_specs(subgraph: Subgraph, file: SubgraphFile, form: str) -> list[OutputSpec]:
    return [
        OutputSpec(
            name=o.name,
            shape=subgraph.graph.shapes[o.value],
            dtype="int64" if isinstance(subgraph.graph.producers[o.value].op, ArgMax) else "float32",
            axes={form: file.axes[o.name]},
        )
        for o in subgraph.graph.outputs
    ]


def _spec(subgraph: Subgraph, file: SubgraphFile, artifact: Artifact) -> QuantizationSpec | None:
    spec, q = artifact.spec.quantization, subgraph.quantized
    if spec is None or q is None:
        return spec

    def tensor(value: ValueName) -> TensorQuantization:
        params = q.activations[value]
        return TensorQuantization(scale=float(params.scale), zero_point=params.zero_point)

    names = set(subgraph.nodes)
    return msgspec.structs.replace(
        spec,
        inputs={i.name: tensor(i.name) for i in subgraph.graph.inputs},
        outputs={o.name: tensor(o.value) for o in subgraph.graph.outputs},
        exact=is_exact(q),
        float_layers=tuple(n for n in spec.float_layers if n in names),
        io=file.io,
        raw_bytes=False,
        saturating=tuple(n for n in spec.saturating if n in names),
    )


def some_samples(inputs: Mapping[ValueName, Array], places: Sequence[int]) -> dict[ValueName, Array]:
    """The samples of the inputs at some places."""
    return {name: np.ascontiguousarray(array[list(places)]) for name, array in inputs.items()}
