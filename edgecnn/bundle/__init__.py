"""Bundles: artifacts, manifest and golden vectors in one folder that appears whole or not at all."""

from edgecnn.bundle.bundle import Artifact, Bundle, NewArtifact, check_destination, load_bundle, write_bundle
from edgecnn.bundle.golden import REFERENCE, Golden, decode_golden, encode_golden
from edgecnn.bundle.manifest import (
    ArtifactSpec,
    GoldenSpec,
    InputSpec,
    Manifest,
    OutputSpec,
    QuantizationSpec,
    Source,
    TensorQuantization,
    WeightsFile,
    decode_manifest,
    encode_manifest,
    layout_name,
)

__all__ = [
    "REFERENCE",
    "Artifact",
    "ArtifactSpec",
    "Bundle",
    "Golden",
    "GoldenSpec",
    "InputSpec",
    "Manifest",
    "NewArtifact",
    "OutputSpec",
    "QuantizationSpec",
    "Source",
    "TensorQuantization",
    "WeightsFile",
    "check_destination",
    "decode_golden",
    "decode_manifest",
    "encode_golden",
    "encode_manifest",
    "layout_name",
    "load_bundle",
    "write_bundle",
]
