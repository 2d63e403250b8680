"""Compare a file with the re-export of its program: constants, parameters, options and operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.export.steps import Held, Step
from edgecnn.graph.ops import ValueName
from edgecnn.locate.reexport import Reexport
from edgecnn.types import Array

ROLES = ("weight", "bias", "bound", "operand", "scale", "zero point")
"""The roles of constants; where several differ in one layer, the first of these says most."""
_BOUNDS = ("fusedActivationFunction",)
_PADDING = ("padding", "pads", "auto_pad")
_OTHER_MODEL = 0.5
"""Where more than this share of the layers with weights differ, the file belongs to another model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One difference between a file and its program.

    Attributes:
        kind: A role of :data:`ROLES`, or ``nan``, ``padding``, ``option``, ``operator``.
        layer: The first value that it concerns, in running order.
        text: The difference, as a part of a sentence.
        tensor: The constant or tensor that differs.
    """

    kind: str
    layer: ValueName
    text: str
    tensor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileComparison:
    """All differences of a file in running order, and the reason to take it for another model's; empty without one."""

    found: tuple[Discrepancy, ...] = ()
    other_model: str = ""

    def of(self, layer: ValueName) -> list[Discrepancy]:
        """The differences that concern a layer."""
        return [d for d in self.found if d.layer == layer]


def compare_file(reexport: Reexport, data: bytes) -> FileComparison:
    """Compare a file with its re-export.

    Raises:
        BundleError: if the file cannot be read.
    """
    if data == reexport.written.data:
        return FileComparison()
    steps = reexport.descriptor.editor().steps
    wanted, own = steps(reexport.written.data), steps(data)
    layers = _layers(reexport, wanted)
    by_name = {step.name: step for step in own}
    found: list[Discrepancy] = []
    for i, step in enumerate(wanted):
        mate = by_name.get(step.name)
        if mate is None and len(own) == len(wanted) and own[i].kind == step.kind:
            mate = own[i]
        layer = layers[step.name]
        if mate is None:
            found.append(
                Discrepancy(kind="operator", layer=layer, text=f"the {step.kind} that computes {step.name} is missing")
            )
        else:
            found += _differences(layer, step, mate)
    known = {step.name for step in wanted}
    extra = [step for step in own if step.name not in known]
    if len(own) != len(wanted) and extra:
        texts = ", ".join(f"{s.kind} ({s.name})" for s in extra[:3])
        reader = next((layers[w.name] for w in wanted if extra[0].name in _reads_now(by_name, w)), "")
        found.append(Discrepancy(kind="operator", layer=reader, text=f"there are further operators: {texts}"))
    return FileComparison(found=tuple(_once(found)), other_model=_other_model(wanted, found))


def _reads_now(by_name: Mapping[str, Step], step: Step) -> tuple[str, ...]:
    mate = by_name.get(step.name)
    return () if mate is None else mate.reads


def _differences(layer: ValueName, wanted: Step, own: Step) -> list[Discrepancy]:
    if own.kind != wanted.kind:
        kind = "bound" if own.only_bounds and wanted.only_bounds else "operator"
        return [Discrepancy(kind=kind, layer=layer, text=f"{own.kind} computes {wanted.name} instead of {wanted.kind}")]
    found = []
    for name in sorted({*wanted.options, *own.options}):
        before, now = wanted.options.get(name, "none"), own.options.get(name, "none")
        if before != now:
            kind = "bound" if name in _BOUNDS else "padding" if name in _PADDING else "option"
            text = f"{_option(name)} of {layer} ({own.kind}) is {now} instead of {before}"
            found.append(Discrepancy(kind=kind, layer=layer, text=text))
    for slot, held in wanted.held.items():
        found += _held(layer, held, own.held.get(slot))
    if not found and own.reads != wanted.reads and not set(wanted.held) ^ set(own.held):
        moved = [(a, b) for a, b in zip(wanted.reads, own.reads, strict=False) if a != b]
        held_names = {h.name for h in (*wanted.held.values(), *own.held.values())}
        moved = [(a, b) for a, b in moved if not {a, b} <= held_names]
        if moved or len(own.reads) != len(wanted.reads):
            before, now = moved[0] if moved else (str(len(wanted.reads)), str(len(own.reads)))
            found.append(
                Discrepancy(kind="operator", layer=layer, text=f"{layer} ({own.kind}) reads {now} instead of {before}")
            )
    return found


def _held(layer: ValueName, wanted: Held, own: Held | None) -> list[Discrepancy]:
    if own is None:
        text = f"the {wanted.role} {wanted.name} of {layer} is missing"
        return [Discrepancy(kind=wanted.role, layer=layer, text=text)]
    a, b = wanted.array, own.array
    if a.dtype != b.dtype or a.shape != b.shape:
        text = f"the {wanted.role} {own.name} is {b.dtype} {b.shape} instead of {a.dtype} {a.shape}"
        return [Discrepancy(kind=wanted.role, layer=layer, text=text)]
    if b.dtype.kind == "f" and not np.isfinite(b).all() and np.isfinite(a).all():
        bad = int((~np.isfinite(b)).sum())
        text = f"{bad:,} of {b.size:,} numbers of the {wanted.role} {own.name} are NaN or infinite"
        return [Discrepancy(kind="nan", layer=layer, text=text, tensor=own.name)]
    other = a != b
    if not other.any():
        return []
    return [Discrepancy(kind=wanted.role, layer=layer, text=_amount(wanted, own, other), tensor=own.name)]


def _amount(wanted: Held, own: Held, other: Array) -> str:
    a, b = wanted.array.astype(np.float64), own.array.astype(np.float64)
    if a.size == 1:
        return f"the {wanted.role} of {own.name} is {_number(b)} instead of {_number(a)}"
    count, largest = int(other.sum()), float(np.abs(b - a).max())
    share = np.divide(b, a, out=np.ones_like(a), where=a != 0)[other & (a != 0)]
    ratio = ""
    if count > 1 and len(share) and np.allclose(share, share[0], rtol=1e-3) and share[0] != 1:
        ratio = f", all of them times {share[0]:.4g}"
    return (
        f"{count:,} of {a.size:,} numbers of the {wanted.role} {own.name} are not the program's,"
        f" by {largest:.4g} at most{ratio}"
    )


def _number(array: Array) -> str:
    return f"{float(array.reshape(-1)[0]):.6g}"


def _option(name: str) -> str:
    return {"fusedActivationFunction": "the activation", "pads": "the padding", "auto_pad": "the padding"}.get(
        name, f"the {name}"
    )


def _layers(reexport: Reexport, steps: Sequence[Step]) -> dict[str, ValueName]:
    """For each operator, by the name of its result, the first value of the graph that it helps to compute."""
    names = _place_names(reexport)
    found: dict[str, ValueName] = {}
    for step in reversed(steps):
        readers = [found[s.name] for s in steps if step.name in s.reads and s.name in found]
        order = [n.name for n in reexport.graph.nodes]
        first = min(readers, key=lambda v: order.index(v) if v in order else -1, default="")
        found[step.name] = names.get(step.name, first or step.name)
    return found


def _place_names(reexport: Reexport) -> dict[str, ValueName]:
    """For each tensor that holds a value, by its name, that value."""
    names = reexport.descriptor.editor().tensor_names(reexport.written.data)
    return {names[place.tensor]: value for value, places in reexport.written.places.items() for place in places}


def _other_model(wanted: Sequence[Step], found: Sequence[Discrepancy]) -> str:
    """The reason to take the file for another model's: most weights differ, or most operators are missing."""
    layers = {d.layer for d in found if d.kind == "weight"}
    weighted = {s.name for s in wanted if any(h.role == "weight" for h in s.held.values())}
    missing = sum(d.kind == "operator" for d in found)
    if len(weighted) > 1 and len(layers) > _OTHER_MODEL * len(weighted):
        return f"the weights of {len(layers)} of {len(weighted)} layers are not the program's"
    if missing > _OTHER_MODEL * len(wanted):
        return f"{missing} of {len(wanted)} operators are not the program's"
    return ""


def _once(found: Sequence[Discrepancy]) -> list[Discrepancy]:
    """The differences, each of a tensor only once although several operators hold it."""
    return list({(d.tensor or d.layer, d.text): d for d in reversed(found)}.values())[::-1]


def layer_of(reexport: Reexport, name: str) -> ValueName:
    """The first value of the graph that an operator helps to compute, by the name of the operator's result."""
    return _layers(reexport, reexport.descriptor.editor().steps(reexport.written.data)).get(name, name)
