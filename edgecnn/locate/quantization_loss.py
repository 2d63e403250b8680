"""Name the layer whose integers are too coarse, where a verdict fails although file and runtime are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgecnn.bundle import Artifact, Bundle, Program
from edgecnn.locate.execute import graph_inputs
from edgecnn.locate.location import Location, layer_name
from edgecnn.locate.sensitivity import sensitivity
from edgecnn.parity.verdict import Verdict

LOSSES = frozenset(("accuracy_drop", "top1_disagreement"))
"""Metrics of verdicts that compare int8 with the float reference."""
SAMPLES = 8
"""The number of golden inputs on which layers are ranked."""
SPREAD = 0.25
"""A layer is named that causes at least this share of the whole graph's noise by itself."""


def is_loss(verdicts: Sequence[Verdict]) -> bool:
    """Whether one of the verdicts failed because int8 loses against float."""
    return any(not v.passed and v.metric in LOSSES for v in verdicts)


def with_costliest(location: Location, bundle: Bundle, artifact: Artifact, program: Program) -> Location:
    """The location; where no cause was found, with the layer that loses most by int8.

    Raises:
        BundleError: if the golden vectors cannot be read.
    """
    q = program.quantized
    if location.cause or q is None or artifact.precision != "int8":
        return location
    golden = bundle.golden()
    real = [golden.inputs[i.name][:SAMPLES] for i in bundle.manifest.inputs]
    integers = graph_inputs(q, bundle.manifest, artifact, real)
    inputs = [q.activations[i.name].dequantize(a) for i, a in zip(q.graph.inputs, integers, strict=True)]
    found = sensitivity(q, [np.asarray(a, np.float32) for a in inputs])
    if not found.rows:
        return location
    first = found.rows[0]
    remedy = "edgecnn sensitivity suggests layers to leave in float; --precisions int16x8 is finer throughout"
    if first.alone.noise < SPREAD * found.whole.noise:
        text = f"int8 itself loses this, no layer more than others ({found.whole.snr:.1f} dB on golden inputs)"
        return replace(location, fault="quantization", cause=text, remedy=remedy)
    text = (
        f"int8 itself loses this, most of it in {first.layer.path}: with only that in integers the outputs have"
        f" {first.alone.snr:.1f} dB, with all layers {found.whole.snr:.1f} dB on golden inputs"
    )
    layer = location.layer or layer_name(q.graph, first.layer.nodes[0])
    return replace(location, layer=layer, fault="quantization", cause=text, remedy=remedy)
