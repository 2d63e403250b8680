"""Observe every value of an artifact while it runs, and every operator alone, in two variants of its file.

The first variant has each value as an output. In the second one operators read golden values instead of each other's
results, so that one run shows each operator alone. Both are edited from the file's own bytes: these are what is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.editing import TensorKey
from edgecnn.export.written import Place
from edgecnn.graph.ops import ValueName
from edgecnn.locate.expected import Expected, Gap
from edgecnn.locate.probe_session import Kernel, ProbeSession
from edgecnn.locate.reexport import Reexport
from edgecnn.types import Array

_TRIES = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A tensor that is observed.

    Attributes:
        value: The value that it holds.
        place: Which tensor it is, and how it holds the value.
        output: The name of the model's output that it is; empty for other tensors.
    """

    value: ValueName
    place: Place
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The tensors of a file that can be observed.

    Attributes:
        points: The tensors, in running order.
        missing: Values of the program that the file has no tensor for.
        merged: Values left out, since a runtime that has to output them no longer fuses their operators.
        refused: Whether the runtime fuses other operators in spite of that.
    """

    points: tuple[Point, ...]
    missing: tuple[ValueName, ...] = ()
    merged: tuple[ValueName, ...] = ()
    refused: bool = False


def find_points(reexport: Reexport, data: bytes, io: str) -> Points:
    """The tensors of a file that hold values of its program.

    Args:
        reexport: What the file should be.
        data: The file.
        io: Type of its inputs and outputs.
    """
    editor = reexport.descriptor.editor()
    there = editor.corresponding(reexport.written.data, data)
    order = [*(i.name for i in reexport.graph.inputs), *(n.name for n in reexport.graph.nodes)]
    points, missing = [], []
    for value in order:
        places = reexport.written.places.get(value, ())
        own = [replace(p, tensor=there[p.tensor]) for p in places if p.tensor in there]
        points += [Point(value, place) for place in own]
        missing += [value] if places and not own else []
    form: Any = "real" if io == "float32" else "integers"
    offset = 128 if io == "uint8" else 0
    known = {p.place.tensor for p in points}
    for output, tensor in zip(reexport.graph.outputs, editor.outputs(data), strict=False):
        if tensor not in known:
            axes = reexport.written.axes[output.name]
            place = Place(tensor=tensor, axes=axes, form=form, offset=offset)
            points.append(Point(output.value, place, output.name))
    return Points(points=tuple(points), missing=tuple(missing))


def keep_fusions(found: Points, probe: ProbeSession, data: bytes, inputs: Sequence[Array]) -> Points:
    """Leave out the values that the runtime cannot output without undoing a fusion; only ONNX Runtime tells which.

    Raises:
        TargetError: if the file does not run there.
    """
    from edgecnn.export.onnx import edit as onnx_edit

    own = probe.kernels(data, "as it is", inputs)
    if own is None:
        return found
    points, merged = list(found.points), list[ValueName]()
    for _ in range(_TRIES):
        tapped = onnx_edit.with_outputs(data, [p.place.tensor for p in points], batch_free=probe.batch_free)
        seen = probe.kernels(tapped, "with all its values as outputs", inputs)
        assert seen is not None
        if _kinds(seen) == _kinds(own):
            return replace(found, points=tuple(points), merged=tuple(dict.fromkeys(merged)))
        inner, near = onnx_edit.tensors_around(data, {name for _, name in seen - own})
        undone = [p for p in points if p.place.tensor in inner and not p.output]
        undone = undone or [p for p in points if p.place.tensor in near and not p.output]
        if not undone:
            break
        merged += [p.value for p in undone]
        points = [p for p in points if p not in undone]
    return replace(found, points=tuple(points), merged=tuple(dict.fromkeys(merged)), refused=True)


def _kinds(kernels: Counter[Kernel]) -> Counter[str]:
    return Counter(kind for kind, _ in kernels.elements())


def tap(points: Points, probe: ProbeSession, data: bytes, inputs: Sequence[Array], expected: Expected) -> list[Gap]:
    """How far each value of the running artifact is from the golden one, in the order of the points.

    Raises:
        TargetError: if the edited file does not open or run there.
    """
    tensors = [p.place.tensor for p in points.points]
    tapped = expected.reexport.descriptor.editor().with_outputs(data, tensors, batch_free=probe.batch_free)
    outputs = probe.run(tapped, "with all its values as outputs", inputs)
    return _gaps(points, outputs, expected)


def force(
    points: Points, probe: ProbeSession, data: bytes, inputs: Sequence[Array], expected: Expected
) -> tuple[list[Gap], list[Array]]:
    """How far the result of each operator for golden values is from the golden result; and these results.

    Raises:
        TargetError: if the edited file does not open or run there.
    """
    editor = expected.reexport.descriptor.editor()
    tensors, read = [p.place.tensor for p in points.points], editor.read_tensors(data)
    fed: list[tuple[TensorKey, Array]] = [
        (p.place.tensor, expected.encoded(p.value, p.place)) for p in points.points if p.place.tensor in read
    ]
    forced = editor.with_fed_tensors(data, tensors, fed, batch_free=probe.batch_free)
    outputs = probe.run(forced, "each operator alone", [*inputs, *(array for _, array in fed)])
    return _gaps(points, outputs, expected), outputs


def _gaps(points: Points, outputs: Sequence[Array], expected: Expected) -> list[Gap]:
    return [expected.gap(p.value, p.place, found) for p, found in zip(points.points, outputs, strict=True)]


def worst_samples(found: Sequence[Array], wanted: Sequence[Array], count: int) -> NDArray[np.int64]:
    """The places of at most ``count`` samples, in their own order: those whose outputs differ most."""
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
