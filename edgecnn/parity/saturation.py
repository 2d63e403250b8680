"""When an int8 ONNX file fails on an older x86, the reason is often one: name it, with its cure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from edgecnn.bundle import Artifact
from edgecnn.errors import TargetError
from edgecnn.parity.verdict import Verdict
from edgecnn.targets.target import Target

VNNI = frozenset(("avx512_vnni", "avx_vnni", "avx_vnni_int8"))
X86 = "sse2"
"""A feature that every x86 of 64 bits has, and no other processor."""
_SHOWN = 5


def saturation_reason(verdict: Verdict, artifact: Artifact, target: Target) -> Verdict:
    """The verdict, with its reason completed where the kernel without VNNI can have made it fail."""
    quantization = artifact.spec.quantization
    if verdict.passed or target.runtime != "onnxruntime" or quantization is None or not quantization.saturating:
        return verdict
    if not saturates(_features(target)):
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {explained(quantization.saturating)}")


def saturates(features: Collection[str]) -> bool:
    """Whether ONNX Runtime adds products in int16 on a processor of these features."""
    return X86 in features and not VNNI & set(features)


def explained(layers: tuple[str, ...]) -> str:
    """Why, where, and what to do."""
    more = f" and {len(layers) - _SHOWN} more" if len(layers) > _SHOWN else ""
    return (
        "this processor has no VNNI, and without it ONNX Runtime adds pairs of products in int16, which can overflow in"
        f" {', '.join(layers[:_SHOWN])}{more}; export with --recipe int8-7bit"
    )


def _features(target: Target) -> Collection[str]:
    try:
        with target.host.start(target.environment, time_limit=target.time_limit) as connection:
            return connection.probe().features or ()
    except TargetError:
        return ()  # the verdict stands without it
