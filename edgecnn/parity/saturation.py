"""When an int8 ONNX file fails on an older x86, the reason is often one: name it, with its cure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from edgecnn.bundle import Artifact
from edgecnn.errors import TargetError
from edgecnn.parity.verdict import Verdict
from edgecnn.targets.target import Target

VNNI = frozenset(("avx512_vnni", "avx_vnni", "avx_vnni_int8"))
AVX2 = "avx2"
"""What the kernel that saturates is written for; on older processors still, another adds in 32 bits."""
_SHOWN = 5


def saturation_reason(verdict: Verdict, artifact: Artifact, target: Target) -> Verdict:
    """The verdict, with its reason completed where the kernel without VNNI can have made it fail."""
    quantization = artifact.spec.quantization
    if verdict.passed or quantization is None or not quantization.saturating or not adds_in_int16(target):
        return verdict
    if not saturates(_features(target)):
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {explained(quantization.saturating)}")


def adds_in_int16(target: Target) -> bool:
    """Whether a target lets ONNX Runtime use kernels that add in int16 where the processor lacks VNNI."""
    return target.runtime == "onnxruntime" and not target.options.get("precision", True)


def saturates(features: Collection[str]) -> bool:
    """Whether ONNX Runtime adds products in int16 on a processor of these features."""
    return AVX2 in features and not VNNI & set(features)


def explained(layers: tuple[str, ...]) -> str:
    """Why, where, and what to do."""
    more = f" and {len(layers) - _SHOWN} more" if len(layers) > _SHOWN else ""
    return (
        "this processor has AVX2 and no VNNI, where ONNX Runtime adds pairs of products in int16, which can overflow in"
        f" the layer{'s' * (len(layers) > 1)} {', '.join(layers[:_SHOWN])}{more}; leave precision=off out"
        ' (in programs of your own set session.x64quantprecision to "1"), or export with --recipe int8-7bit'
    )


def _features(target: Target) -> Collection[str]:
    try:
        with target.host.start(target.environment, time_limit=target.time_limit) as connection:
            return connection.probe().features or ()
    except TargetError:
        return ()  # the verdict stands without it
