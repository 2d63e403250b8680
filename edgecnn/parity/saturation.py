"""Saturation of int8 sums on x86 without VNNI, added to the reason of a verdict that it may have caused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from edgecnn.bundle import Artifact
from edgecnn.errors import TargetError
from edgecnn.parity.verdict import Verdict
from edgecnn.targets.target import Target

VNNI = frozenset(("avx512_vnni", "avx_vnni", "avx_vnni_int8"))
AVX2 = "avx2"
"""The saturating kernel requires AVX2; on processors without AVX2, another kernel adds in 32 bits."""
_SHOWN = 5


def saturation_reason(verdict: Verdict, artifact: Artifact, target: Target) -> Verdict:
    """Add the explanation of saturation to the verdict's reason if it may have caused the failure."""
    quantization = artifact.spec.quantization
    if verdict.passed or quantization is None or not quantization.saturating or not adds_in_int16(target):
        return verdict
    if not saturates(_features(target)):
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {explained(quantization.saturating)}")


def adds_in_int16(target: Target) -> bool:
    """Whether a target lets ONNX Runtime use kernels that add in int16 on processors without VNNI."""
    return target.runtime == "onnxruntime" and not target.options.get("precision", True)


def saturates(features: Collection[str]) -> bool:
    """Whether ONNX Runtime adds products in int16 on a processor with these features."""
    return AVX2 in features and not VNNI & set(features)


def explained(layers: tuple[str, ...]) -> str:
    """Explain the saturation: its cause, the affected layers, and the remedy."""
    more = f" and {len(layers) - _SHOWN} more" if len(layers) > _SHOWN else ""
    return (
        "this processor has AVX2 but no VNNI, so ONNX Runtime adds pairs of products in int16, which can overflow in"
        f" the layer{'s' * (len(layers) > 1)} {', '.join(layers[:_SHOWN])}{more}; remove precision=off"
        ' (in programs of your own set session.x64quantprecision to "1"), or export with --recipe int8-7bit'
    )


def _features(target: Target) -> Collection[str]:
    try:
        with target.host.start(target.environment, time_limit=target.time_limit) as connection:
            return connection.probe().features or ()
    except TargetError:
        return ()  # the verdict is valid without it
