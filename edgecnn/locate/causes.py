"""The likely causes of a fault, each recognised by trying it or by comparing the file with its program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.export.written import Place
from edgecnn.graph.ops import Activation, ValueName
from edgecnn.locate.execute import execute_alone, rules_of
from edgecnn.locate.expected import Expected, own_elements, real_gap
from edgecnn.locate.file_comparison import ROLES, Discrepancy, FileComparison
from edgecnn.locate.location import Cause
from edgecnn.locate.probe_session import ProbeSession
from edgecnn.locate.rules import REAL_LIMIT
from edgecnn.locate.tap_outputs import Point
from edgecnn.parity.saturation_reason import can_saturate, explained, saturates
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.types import Array

HYBRID = ("int8-dynamic",)
"""Precisions whose integers never leave their operators, and that have rules of rounding nevertheless."""
_AGAIN = "export the model again, or fetch the file again where it was copied from"
_CLIPPED = 0.01
"""Share of a value's elements beyond its range from which on the range is named."""
_ORDER = ("nan", "operator", "bound", "padding", "option", *ROLES)


def file_cause(comparison: FileComparison, layers: Sequence[ValueName]) -> Cause | None:
    """The file as the cause: its difference from the program in the first of these layers that differs, else in any.

    Args:
        comparison: The file compared with its program.
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


def saturation_cause(probe: ProbeSession, broken: Sequence[ValueName]) -> Cause | None:
    """The runtime's kernel without VNNI, where a broken layer is one that it can get wrong."""
    quantization = probe.artifact.spec.quantization
    if quantization is None or not can_saturate(probe.target):
        return None
    layers = tuple(v for v in broken if v in quantization.saturating)
    if not layers or not saturates(probe.features(), probe.target.runtime):
        return None
    text, _, remedy = explained(layers, probe.target.runtime).partition("; ")
    return Cause(fault="runtime", text=text, remedy=remedy, layer=layers[0])


def rounding_cause(expected: Expected, broken: Sequence[tuple[Point, Array]], runtime: str) -> Cause | None:
    """Another rule of rounding as the cause, where it explains all results of the broken operators, bit for bit."""
    reexport = expected.reexport
    known = [(p, found, reexport.graph.producers.get(p.value)) for p, found in broken if not p.output]
    integer = [
        (p, found, node) for p, found, node in known if p.place.form == "integers" or reexport.precision in HYBRID
    ]
    if not integer or any(node is None for _, _, node in integer):
        return None
    for rule in rules_of(reexport):
        if rule == expected.rule:
            continue
        other = [
            (p, found, execute_alone(reexport, node, expected.values, rule))
            for p, found, node in integer
            if node is not None
        ]
        if all(_is_what(found, given, p.place) for p, found, given in other):
            text = f"the kernel rounds by the rule {rule}, where {runtime} is known for {expected.rule}"
            remedy = "another version of the runtime, or a target with the options that give this rule its name"
            return Cause(fault="runtime", text=text, remedy=remedy)
    return None


def _is_what(found: Array, given: Array, place: Place) -> bool:
    """Whether a tensor holds the result of a rule: bit for bit in integers, up to the last bits in float."""
    found = own_elements(found, place, given.shape)
    if given.dtype.kind == "f":
        return real_gap(found, given.transpose(place.axes)).largest <= REAL_LIMIT
    stored = (given.astype(np.int32) + place.offset).transpose(place.axes)
    return stored.shape == found.shape and not (stored != found).any()


def float_kernels(probe: ProbeSession, data: bytes, inputs: Sequence[Array]) -> Cause | None:
    """Operators of an int8 file that a runtime computes in float, except those that the file means to be float."""
    from edgecnn.export.onnx.parse import exact_float_tensors

    runtime = RUNTIMES[probe.target.runtime]
    profiler = runtime.profiler
    if profiler is None or not profiler.float_layers or probe.artifact.precision != "int8":
        return None
    ran = probe.kernels(data, "as it is", inputs)
    layers, tensors = exact_float_tensors(data)
    skipped = set(probe.artifact.spec.quantization.float_layers) if probe.artifact.spec.quantization else set()
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
    """Calibration as the cause: the value of which the float graph has the largest share beyond its range."""
    from edgecnn.golden.batches import execute_samples

    q = expected.reexport.quantized
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
