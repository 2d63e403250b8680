"""The likely cause of what was located, each recognised by trying it or by reading the file beside its program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.export.written import Place
from edgecnn.graph.ops import Activation, ValueName
from edgecnn.locate.compare import ROLES, Comparison, Discrepancy
from edgecnn.locate.execute import execute_alone, rules_of
from edgecnn.locate.expected import Expected, own_elements, real_gap
from edgecnn.locate.location import Cause
from edgecnn.locate.probe_session import Suspect
from edgecnn.locate.rules import REAL_LIMIT
from edgecnn.locate.tap_outputs import Point
from edgecnn.parity.saturation import can_saturate, explained, saturates
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.types import Array

HYBRID = ("int8-dynamic",)
"""Precisions whose integers are inside of operators, and that have rules all the same."""
_AGAIN = "export the model again, or fetch the file again where it was copied from"
_CLIPPED = 0.01
"""Share of a value's elements beyond its range from which on the range is named."""
_ORDER = ("nan", "operator", "bound", "padding", "option", *ROLES)


def file_cause(comparison: Comparison, layers: Sequence[ValueName]) -> Cause | None:
    """What the file has otherwise than its program: in the first of these layers that it has otherwise, else anywhere.

    Args:
        comparison: The file beside its program.
        layers: The layer that breaks its rule, and those that the runtime computes as parts of it.
    """
    if comparison.other_model:
        text = f"the file seems to be another model's, or another training's: {comparison.other_model}"
        return Cause(fault="file", text=text, remedy="put this bundle's own file back, or export the model again")
    own = next((found for layer in layers if (found := comparison.of(layer))), list(comparison.found))
    if not own:
        return None
    first = own[0].layer
    found = sorted((d for d in own if d.layer == first), key=_importance)
    text = "; ".join(d.text for d in found[:2])
    more = len(comparison.found) - min(len(found), 2)
    if more > 0:
        text += f"; and {more} more such differences in the file"
    remedy = "look at the training run or checkpoint, then " + _AGAIN if found[0].kind == "nan" else _AGAIN
    where = f" in {first}" if first not in layers else ""
    return Cause(fault="file", text=f"in the file{where}, {text}", remedy=remedy, layer=first)


def _importance(discrepancy: Discrepancy) -> int:
    return _ORDER.index(discrepancy.kind) if discrepancy.kind in _ORDER else len(_ORDER)


def saturation_cause(suspect: Suspect, broken: Sequence[ValueName]) -> Cause | None:
    """The runtime's kernel without VNNI, where a broken layer is one that it can get wrong."""
    quantization = suspect.artifact.spec.quantization
    if quantization is None or not can_saturate(suspect.target):
        return None
    layers = tuple(v for v in broken if v in quantization.saturating)
    if not layers or not saturates(suspect.features(), suspect.target.runtime):
        return None
    text, _, remedy = explained(layers, suspect.target.runtime).partition("; ")
    return Cause(fault="runtime", text=text, remedy=remedy, layer=layers[0])


def rounding_cause(expected: Expected, broken: Sequence[tuple[Point, Array]], runtime: str) -> Cause | None:
    """Another rule of the integer reference that explains all that the broken operators gave, bit for bit."""
    twin = expected.twin
    known = [(p, found, twin.graph.producers.get(p.value)) for p, found in broken if not p.output]
    told = [(p, found, node) for p, found, node in known if p.place.form == "integers" or twin.precision in HYBRID]
    if not told or any(node is None for _, _, node in told):
        return None
    for rule in rules_of(twin):
        if rule == expected.rule:
            continue
        other = [
            (p, found, execute_alone(twin, node, expected.values, rule)) for p, found, node in told if node is not None
        ]
        if all(_is_what(found, given, p.place) for p, found, given in other):
            text = f"the kernel rounds by the rule {rule}, where {runtime} is known for {expected.rule}"
            remedy = "another version of the runtime, or a target with the options that give this rule its name"
            return Cause(fault="runtime", text=text, remedy=remedy)
    return None


def _is_what(found: Array, given: Array, place: Place) -> bool:
    """Whether a tensor holds what a rule gives: bit for bit in integers, up to the last bits in float."""
    found = own_elements(found, place, given.shape)
    if given.dtype.kind == "f":
        return real_gap(found, given.transpose(place.axes)).largest <= REAL_LIMIT
    stored = (given.astype(np.int32) + place.offset).transpose(place.axes)
    return stored.shape == found.shape and not (stored != found).any()


def float_kernels(suspect: Suspect, data: bytes, inputs: Sequence[Array]) -> Cause | None:
    """Operators of an int8 file that a runtime computes in float, except those that the file means to be float."""
    from edgecnn.locate.edit_onnx import exact_float_tensors

    runtime = RUNTIMES[suspect.target.runtime]
    profiler = runtime.profiler
    if profiler is None or not profiler.float_layers or suspect.artifact.precision != "int8":
        return None
    ran = suspect.kernels(data, "as it is", inputs)
    layers, tensors = exact_float_tensors(data)
    skipped = set(suspect.artifact.spec.quantization.float_layers) if suspect.artifact.spec.quantization else set()
    names = [
        name
        for kind, name in ran or ()
        if kind in profiler.float_layers and name not in tensors and name not in skipped
        if not any(name == layer or name.startswith(f"{layer}.") for layer in (*layers, *skipped))
        if not name.endswith(".steps")  # an input on its way to its integers
    ]
    if not names:
        return None
    text = f"{runtime.title} computes {_some(names)} in float kernels, not in integers"
    return Cause(fault="runtime", text=text, remedy=profiler.float_remedy)


def clipped_cause(expected: Expected) -> Cause | None:
    """The value that calibration cut off most: the float graph gives more of its values beyond their range."""
    from edgecnn.golden.batches import execute_samples

    q = expected.twin.quantized
    if q is None:
        return None
    inputs = [q.activations[i.name].dequantize(a) for i, a in zip(q.graph.inputs, expected.inputs, strict=True)]
    reals = execute_samples(q.graph, inputs)
    shares = []
    for node in q.graph.nodes:
        if node.name not in q.skipped:
            params = q.activations[node.name]
            low, high = getattr(node.op, "activation", Activation.NONE).bounds
            step = float(params.scale)
            beyond = (reals[node.name] < max(params.low, low) - step) | (
                reals[node.name] > min(params.high, high) + step
            )
            shares.append((float(beyond.mean()), node.name))
    share, name = max(shares, key=lambda pair: pair[0], default=(0.0, ""))
    if share < _CLIPPED:
        return None
    text = f"calibration cut the range of {name} short: {share:.1%} of its values lie beyond it"
    return Cause(
        fault="quantization", text=text, remedy="calibrate with data like that of use, or with more of it", layer=name
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
