"""Compare what the manifest says about an artifact's inputs and outputs with the program."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from edgecnn.bundle import Artifact, InputSpec, Manifest, OutputSpec
from edgecnn.locate.location import Cause
from edgecnn.locate.reexport import Reexport
from edgecnn.program.qparams import QParams

_REMEDY = "put the bundle's own manifest back, or export the model again"


def manifest_cause(reexport: Reexport, manifest: Manifest, artifact: Artifact) -> Cause | None:
    """The first contradiction between manifest and program: a layout, parameters, or a preprocessing."""
    said = chain(_layouts(reexport, manifest), _parameters(reexport, artifact), _bytes(reexport, manifest, artifact))
    first = next(said, "")
    return Cause(fault="input", text=first, remedy=_REMEDY) if first else None


def _layouts(reexport: Reexport, manifest: Manifest) -> Iterator[str]:
    both: tuple[InputSpec | OutputSpec, ...] = (*manifest.inputs, *manifest.outputs)
    for value in both:
        stated, own = (
            tuple(value.axes[reexport.form]),
            tuple(reexport.written.axes.get(value.name, value.axes[reexport.form])),
        )
        if stated != own:
            yield (
                f"the manifest says that {value.name} is stored in the order {list(stated)}, and it is {list(own)} in"
                f" {reexport.form} files"
            )


def _parameters(reexport: Reexport, artifact: Artifact) -> Iterator[str]:
    q, spec = reexport.int16 or reexport.quantized, artifact.spec.quantization
    if q is None or spec is None:
        return
    values = {i.name: i.name for i in q.graph.inputs} | {o.name: o.value for o in q.graph.outputs}
    for name, params in {**spec.inputs, **spec.outputs}.items():
        own = q.activations[values[name]]
        zero = own.zero_point if isinstance(own, QParams) else 0
        if (np.float32(params.scale), params.zero_point) != (own.scale, zero):
            yield (
                f"the manifest has the scale {params.scale:.6g} and zero point {params.zero_point} for {name}, its"
                f" program {float(own.scale):.6g} and {zero}"
            )


def _bytes(reexport: Reexport, manifest: Manifest, artifact: Artifact) -> Iterator[str]:
    """Compare the preprocessing with the one that a file of raw bytes was made for, by the first channel's scale."""
    q, spec, first = reexport.quantized, artifact.spec.quantization, manifest.inputs[0]
    if q is None or spec is None or not spec.raw_bytes or first.preprocessing is None:
        return
    stated, own = np.float32(first.preprocessing.scale / first.preprocessing.std[0]), q.activations[first.name].scale
    if stated != own:
        yield (
            f"the manifest's preprocessing makes one step of a raw byte {float(stated):.6g} of {first.name}, and the"
            f" file was made for {float(own):.6g}: its scale or std is another"
        )
