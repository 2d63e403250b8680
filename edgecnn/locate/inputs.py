"""Recognise a mixed-up input: try each usual mix-up, and name the one that explains all outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecnn.bundle import REFERENCE, Artifact, Golden, Manifest
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.locate.execute import execute, outputs_of, taken
from edgecnn.locate.expected import real_gap
from edgecnn.locate.location import Cause
from edgecnn.locate.reexport import Reexport
from edgecnn.targets.runtimes.rounding_rules import REFERENCE_RULE
from edgecnn.types import Array

_CLOSE = 1e-4
"""Float outputs match a mix-up's where they differ by at most this share of the range."""
_STEPS = 2.0
"""Integer outputs match a mix-up's where they differ by at most so many LSB."""
RECORDED = MappingProxyType({"int8": REFERENCE_RULE, "int16x8": "rescale31"})
"""The rules of a bundle's golden vectors."""
_FED = "feed the input as the manifest says: layout, order of channels, scale, mean and std"


def mixed_up(x: Array, preprocessing: Preprocessing | None) -> Iterator[tuple[str, Array]]:
    """The usual mix-ups of an input (samples, ...): for each its name and the mixed-up input."""
    if x.ndim == 4:
        n, c, h, w = x.shape
        if c > 1:
            yield "its channels in reverse order (RGB for BGR)", x[:, ::-1]
            yield "laid out NHWC and read as NCHW", x.transpose(0, 2, 3, 1).reshape(x.shape)
            yield "laid out NCHW and read as NHWC", x.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        if h == w:
            yield "its height and width exchanged", x.transpose(0, 1, 3, 2)
    if preprocessing is not None and x.ndim == 4:
        yield from _scaled(x, preprocessing)
    yield "255 times too large (raw bytes for 0..1)", x * 255
    yield "255 times too small (scaled twice)", x / 255


def _scaled(x: Array, p: Preprocessing) -> Iterator[tuple[str, Array]]:
    plain = Preprocessing(mean=p.mean, std=p.std)
    if any(p.mean) or set(p.std) != {1.0}:
        zero = plain.apply(np.zeros_like(x[:1]))
        one = plain.apply(np.ones_like(x[:1])) - zero
        yield "without mean and std", ((x - zero) / one).astype(np.float32)
        yield "with mean and std taken off twice", plain.apply(x)
    if p.scale != 1.0:
        raw = p.undo(x)
        yield "on the raw scale (0..255), neither scaled nor normalised", raw.astype(np.float32)
        yield f"without the scale of {p.scale:g}", plain.apply(raw)
        yield f"with the scale of {p.scale:g} twice", p.apply(raw * p.scale)


def golden_contradiction(reexport: Reexport, manifest: Manifest, artifact: Artifact, golden: Golden) -> Cause | None:
    """The golden inputs as the cause, where the program itself no longer gives the golden outputs for them."""
    precision = reexport.precision if reexport.precision in golden.outputs else REFERENCE
    wanted = [golden.outputs[precision][o.name] for o in manifest.outputs]
    recorded = reexport if precision == reexport.precision else replace(reexport, precision=precision)
    run, close = _program(recorded, manifest, artifact, RECORDED.get(precision, ""))
    inputs = [golden.inputs[i.name] for i in manifest.inputs]
    if close(run(inputs), wanted):
        return None
    found = _explained(inputs, manifest, lambda x: close(run(x), wanted))
    if found:
        return Cause(
            fault="input", text=f"the golden inputs only fit the golden outputs when taken as {found}", remedy=_FED
        )
    return Cause(
        fault="input",
        text="the golden inputs and outputs do not belong together: the program itself gives other outputs",
        remedy="export the model again",
    )


def acts_mixed_up(
    reexport: Reexport,
    manifest: Manifest,
    artifact: Artifact,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    rule: str,
) -> str:
    """The mix-up of the inputs for which the program gives the artifact's outputs; empty where there is none.

    Args:
        reexport: The program.
        manifest: The bundle's manifest.
        artifact: The artifact.
        inputs: The artifact's inputs, in the model's layout.
        outputs: The artifact's outputs: integers where the program is an integer program, else real numbers.
        rule: A rule of the golden executor.
    """
    run, close = _program(reexport, manifest, artifact, rule)
    if close(run(inputs), outputs):
        return ""
    return _explained(inputs, manifest, lambda x: close(run(x), outputs))


def _explained(inputs: Sequence[Array], manifest: Manifest, fits: Callable[[list[Array]], bool]) -> str:
    for name, first in mixed_up(inputs[0], manifest.inputs[0].preprocessing):
        if first.shape == inputs[0].shape and fits([np.ascontiguousarray(first, np.float32), *inputs[1:]]):
            return name
    return ""


def _program(reexport: Reexport, manifest: Manifest, artifact: Artifact, rule: str) -> tuple[Any, Any]:
    """A function from inputs to the program's outputs, and one that tells whether outputs match others."""

    def run(inputs: Sequence[Array]) -> list[Array]:
        return outputs_of(reexport, execute(reexport, taken(reexport, manifest, artifact, inputs), rule))

    def near(found: Sequence[Array], wanted: Sequence[Array]) -> bool:
        pairs = list(zip(found, wanted, strict=True))
        if reexport.quantized is None and reexport.int16 is None:
            return all(real_gap(a, b).largest <= _CLOSE for a, b in pairs)
        return all(
            a.shape == b.shape and np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= _STEPS
            for a, b in pairs
        )

    return run, near
