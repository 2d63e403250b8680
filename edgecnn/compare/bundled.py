"""What the manifest next to an artifact says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from edgecnn.bundle import ArtifactSpec, InputSpec, Manifest, OutputSpec, TensorQuantization, decode_manifest
from edgecnn.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES
from edgecnn.compare.artifact_facts import Facts
from edgecnn.errors import BundleError
from edgecnn.export.file_facts import Affine

_UNSIGNED = 128
"""The difference of a uint8 to the int8 that the manifest's zero points are for."""


def with_manifest(path: Path, sha256: str, form: str, facts: Facts) -> Facts:
    """An artifact's facts, completed from a manifest next to it that states the digest of this very file.

    A manifest that cannot be read is passed over; one that states another digest is passed over with a note.
    """
    manifest_file = path.parent / MANIFEST_FILE
    if not manifest_file.is_file():
        return facts
    try:
        with manifest_file.open("rb") as file:
            manifest = decode_manifest(file.read(MAX_MANIFEST_BYTES + 1), where=str(manifest_file))
    except (BundleError, OSError):
        return facts
    spec = next((a for a in manifest.artifacts if a.file == path.name), None)
    if spec is None or spec.format != form:
        return facts
    if spec.sha256 != sha256:
        note = f"{path.name} is not the file that {MANIFEST_FILE} describes, which is therefore not used"
        return replace(facts, notes=(*facts.notes, note))
    values: Sequence[InputSpec | OutputSpec] = (*manifest.inputs, *manifest.outputs)
    layouts = {v.name: _layout(v.axes[form]) for v in values if _layout(v.axes[form])}
    return replace(
        facts,
        layouts=MappingProxyType({**facts.layouts, **layouts}),
        quantization=MappingProxyType({**facts.quantization, **_quantization(manifest, spec)}),
        preprocessing=manifest.inputs[0].preprocessing,
        notes=(*facts.notes, f"layouts and parameters of {path.name} are those of its bundle's {MANIFEST_FILE}"),
    )


def _layout(axes: Sequence[int]) -> str:
    """``nchw`` or ``nhwc``; empty for other orders, and for values without axes besides batch and channels."""
    rank = len(axes)
    first, last = tuple(range(rank)), (0, *range(2, rank), 1)
    return "" if rank < 3 else "nchw" if tuple(axes) == first else "nhwc" if tuple(axes) == last else ""


def _quantization(manifest: Manifest, spec: ArtifactSpec) -> dict[str, Affine | None]:
    """Parameters of integer inputs and outputs; None where each channel has its own."""
    quantization = spec.quantization
    if quantization is None or quantization.io == "float32":
        return {}
    more = _UNSIGNED if quantization.io == "uint8" else 0
    named = {**quantization.inputs, **quantization.outputs}
    found: dict[str, Affine | None] = {name: _affine(params, more) for name, params in named.items()}
    image = manifest.inputs[0]
    if quantization.raw_bytes and image.preprocessing is not None:
        how = image.preprocessing
        same_for_all = len({*how.mean}) == len({*how.std}) == 1
        bytes_are = Affine(scale=how.scale / how.std[0], zero_point=how.mean[0] / how.scale)
        found[image.name] = bytes_are if same_for_all else None
    return found


def _affine(params: TensorQuantization, more: int) -> Affine:
    return Affine(scale=params.scale, zero_point=params.zero_point + more)
