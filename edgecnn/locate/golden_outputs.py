"""An artifact's outputs and its golden outputs, in one type and layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.bundle import REFERENCE, Artifact, Golden, Manifest, QuantizationSpec
from edgecnn.parity.sample_sets import golden_by_rule
from edgecnn.types import Array


def with_golden(
    outputs: Sequence[Array], manifest: Manifest, artifact: Artifact, golden: Golden, rule: str
) -> tuple[list[Array], list[Array]]:
    """Outputs as an artifact stores them, and the golden ones, both in the model's layout.

    Where the golden outputs are integers, the outputs are made these integers; else both are real numbers.

    Args:
        outputs: The artifact's outputs.
        manifest: The bundle's manifest.
        artifact: The artifact.
        golden: The bundle's golden vectors.
        rule: The rule of rounding whose golden outputs are taken, where the bundle has some.
    """
    own = golden_by_rule(golden, artifact.precision, rule)
    group = golden.outputs[REFERENCE] if own is None else own
    spec = artifact.spec.quantization
    found, wanted = [], []
    for output, given in zip(manifest.outputs, outputs, strict=True):
        axes = output.axes[artifact.format]
        array = given.transpose(np.argsort(axes)) if given.ndim == len(axes) else given
        if spec is not None and group[output.name].dtype in (np.int8, np.int16):
            array = _integers(array, spec, output.name)
        found.append(array)
        wanted.append(group[output.name])
    return found, wanted


def _integers(array: Array, spec: QuantizationSpec, name: str) -> Array:
    params = spec.outputs[name]
    if array.dtype.kind == "f":
        steps: Array = np.rint(array.astype(np.float64) / params.scale) + params.zero_point
        return steps
    return array.astype(np.int16) - 128 if array.dtype == np.uint8 else array
