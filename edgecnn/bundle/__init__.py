"""Bundles: artifacts, manifest, program and golden vectors in one folder, written completely or not at all."""

from edgecnn.bundle.bundle import Artifact, Bundle, NewArtifact, check_destination, load_bundle, write_bundle
from edgecnn.bundle.golden import REFERENCE, Golden, decode_golden, encode_golden
from edgecnn.bundle.manifest import (
    ArtifactSpec,
    GoldenSpec,
    InputSpec,
    Manifest,
    ModelSource,
    OutputSpec,
    ProgramSpec,
    QuantizationSpec,
    TensorQuantization,
    WeightsFile,
    decode_manifest,
    encode_manifest,
    layout_name,
)
from edgecnn.bundle.program import Program, decode_program, encode_program

__all__ = [
    "REFERENCE",
    "Artifact",
    "ArtifactSpec",
    "Bundle",
    "Golden",
    "GoldenSpec",
    "InputSpec",
    "Manifest",
    "ModelSource",
    "NewArtifact",
    "OutputSpec",
    "Program",
    "ProgramSpec",
    "QuantizationSpec",
    "TensorQuantization",
    "WeightsFile",
    "check_destination",
    "decode_golden",
    "decode_manifest",
    "decode_program",
    "encode_golden",
    "encode_manifest",
    "encode_program",
    "layout_name",
    "load_bundle",
    "write_bundle",
]
