"""Every value of an artifact given out, and every operator alone: two variants of the file as it is.

Tapped, the file gives out each of its values. Forced, its operators read golden values instead of each other's, so that
each of them is seen alone, in one run. Both are edited from the file's own bytes, since these are under suspicion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.written import Place
from edgecnn.graph.ops import ValueName
from edgecnn.locate import edit_onnx, edit_tflite
from edgecnn.locate.expected import Expected, Gap
from edgecnn.locate.probe_session import Kernel, Suspect
from edgecnn.locate.reexport import Twin
from edgecnn.types import Array

_TRIES = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A tensor that is looked at: the value it holds, and where. ``output`` names the model's output that it is."""

    value: ValueName
    place: Place
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What of a file can be looked at.

    Attributes:
        points: In running order.
        missing: Values of the program that the file has no tensor for.
        merged: Values left out since giving them out would undo a fusion of the runtime.
        refused: Whether the runtime fuses otherwise all the same.
    """

    points: tuple[Point, ...]
    missing: tuple[ValueName, ...] = ()
    merged: tuple[ValueName, ...] = ()
    refused: bool = False


def find_points(twin: Twin, data: bytes, io: str) -> Points:
    """The tensors of a file that hold values of its program.

    Args:
        twin: What the file was to be.
        data: The file.
        io: Type of its inputs and outputs.
    """
    there = _there(twin, data)
    order = [*(i.name for i in twin.graph.inputs), *(n.name for n in twin.graph.nodes)]
    points, missing = [], []
    for value in order:
        places = twin.written.places.get(value, ())
        own = [replace(p, tensor=there[p.tensor]) for p in places if p.tensor in there]
        points += [Point(value, place) for place in own]
        missing += [value] if places and not own else []
    form: Any = "real" if io == "float32" else "integers"
    offset = 128 if io == "uint8" else 0
    known = {p.place.tensor for p in points}
    for output, tensor in zip(twin.graph.outputs, _outputs(twin, data), strict=False):
        if tensor not in known:
            axes = twin.written.axes[output.name]
            place = Place(tensor=tensor, axes=axes, form=form, offset=offset)
            points.append(Point(output.value, place, output.name))
    return Points(points=tuple(points), missing=tuple(missing))


def keep_fusions(found: Points, suspect: Suspect, data: bytes, inputs: Sequence[Array]) -> Points:
    """Leave out what cannot be given out without breaking up what the runtime fuses; ONNX Runtime tells.

    Raises:
        TargetError: if the file does not run there.
    """
    own = suspect.kernels(data, "as it is", inputs)
    if own is None:
        return found
    points, merged = list(found.points), list[ValueName]()
    for _ in range(_TRIES):
        tapped = edit_onnx.tapped(data, [str(p.place.tensor) for p in points])
        seen = suspect.kernels(tapped, "values given out", inputs)
        assert seen is not None
        if _kinds(seen) == _kinds(own):
            return replace(found, points=tuple(points), merged=tuple(dict.fromkeys(merged)))
        inner, near = edit_onnx.between(data, {name for _, name in seen - own})
        undone = [p for p in points if p.place.tensor in inner and not p.output]
        undone = undone or [p for p in points if p.place.tensor in near and not p.output]
        if not undone:
            break
        merged += [p.value for p in undone]
        points = [p for p in points if p not in undone]
    return replace(found, points=tuple(points), merged=tuple(dict.fromkeys(merged)), refused=True)


def _kinds(kernels: Counter[Kernel]) -> Counter[str]:
    return Counter(kind for kind, _ in kernels.elements())


def tap(points: Points, suspect: Suspect, data: bytes, inputs: Sequence[Array], expected: Expected) -> list[Gap]:
    """How far each value of the running artifact is from the golden one, in the order of the points.

    Raises:
        TargetError: if the tapped file does not open or run there.
    """
    indices: list[Any] = [p.place.tensor for p in points.points]
    if expected.twin.form == "onnx":
        made = edit_onnx.tapped(data, indices)
    else:
        made = edit_tflite.tapped(data, indices, batch_free=suspect.batch_free)
    outputs = suspect.run(made, "values given out", inputs)
    return _gaps(points, outputs, expected)


def force(
    points: Points, suspect: Suspect, data: bytes, inputs: Sequence[Array], expected: Expected
) -> tuple[list[Gap], list[Array]]:
    """How far what each operator gives for golden values is from the golden result, and what it gives.

    Raises:
        TargetError: if the forced file does not open or run there.
    """
    indices: list[Any] = [p.place.tensor for p in points.points]
    read = _read(expected.twin.form, data)
    fed: list[tuple[Any, Array]] = [
        (p.place.tensor, expected.encoded(p.value, p.place)) for p in points.points if p.place.tensor in read
    ]
    if expected.twin.form == "onnx":
        made = edit_onnx.forced(data, indices, fed)
    else:
        made = edit_tflite.forced(data, indices, fed, batch_free=suspect.batch_free)
    outputs = suspect.run(made, "each operator alone", [*inputs, *(array for _, array in fed)])
    return _gaps(points, outputs, expected), outputs


def _gaps(points: Points, outputs: Sequence[Array], expected: Expected) -> list[Gap]:
    return [expected.gap(p.value, p.place, found) for p, found in zip(points.points, outputs, strict=True)]


def _there(twin: Twin, data: bytes) -> dict[Any, Any]:
    """Tensors of the twin that the file has, and what they are in it: the same name, and in TFLite the same index."""
    if twin.form == "onnx":
        return {name: name for name in edit_onnx.tensors(data)}
    own, made = edit_tflite.parsed(data).subgraphs[0], edit_tflite.tensors(data)
    wanted = edit_tflite.parsed(twin.written.data).subgraphs[0].tensors
    names = {i: edit_tflite.name_of(own.tensors[i]) for i in made}
    by_name = {name: i for i, name in names.items()}
    found = {}
    for index, tensor in enumerate(wanted):
        name = edit_tflite.name_of(tensor)
        if names.get(index) == name:
            found[index] = index
        elif name in by_name:
            found[index] = by_name[name]
    return found


def _outputs(twin: Twin, data: bytes) -> list[Any]:
    if twin.form == "onnx":
        return [o.name for o in edit_onnx.parsed(data).graph.output]
    return [int(i) for i in edit_tflite.parsed(data).subgraphs[0].outputs]


def _read(form: str, data: bytes) -> set[Any]:
    """Tensors that some operator reads."""
    if form == "onnx":
        return {name for node in edit_onnx.parsed(data).graph.node for name in node.input}
    return {int(i) for op in edit_tflite.parsed(data).subgraphs[0].operators for i in op.inputs}


def worst_samples(found: Sequence[Array], wanted: Sequence[Array], count: int) -> NDArray[np.int64]:
    """The samples whose outputs differ most, so many at most, in their own order."""
    worst = np.zeros(len(wanted[0]))
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape:
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(a.astype(np.float64) - b).reshape(len(b), -1).max(axis=1)
        scale = float(np.abs(b).max(initial=0.0)) or 1.0
        worst = np.maximum(worst, np.nan_to_num(apart / scale, nan=np.inf, posinf=np.inf))
    order = np.argsort(-worst, kind="stable")[:count]
    return np.sort(order)
