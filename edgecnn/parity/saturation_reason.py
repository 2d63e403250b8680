"""When an int8 file fails on an older x86, the reason is often saturation: name it, with its cure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from edgecnn.bundle import Artifact
from edgecnn.errors import TargetError
from edgecnn.parity.verdict import Verdict
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.target import Target

VNNI = frozenset(("avx512_vnni", "avx_vnni", "avx_vnni_int8"))
_SHOWN = 5


def saturation_reason(verdict: Verdict, artifact: Artifact, target: Target) -> Verdict:
    """Add the explanation of saturation to the verdict's reason if it may have caused the failure."""
    quantization = artifact.spec.quantization
    if verdict.passed or quantization is None or not quantization.saturating or not can_saturate(target):
        return verdict
    if not saturates(_features(target), target.runtime):
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {explained(quantization.saturating, target.runtime)}")


def can_saturate(target: Target) -> bool:
    """Whether a target's runtime and options use kernels that add in int16 where the processor lacks VNNI."""
    return RUNTIMES[target.runtime].saturates(target.options)


def saturates(features: Collection[str], runtime: str) -> bool:
    """Whether a runtime has kernels that add products in int16 on a processor of these features."""
    row = RUNTIMES[runtime].saturation
    return row is not None and row.feature in features and not VNNI & set(features)


def explained(layers: tuple[str, ...], runtime: str) -> str:
    """Say why a runtime that can saturate does so, in which layers, and what to do."""
    row = RUNTIMES[runtime]
    assert row.saturation is not None
    feature = row.saturation.feature.upper().replace("_", ".")
    more = f" and {len(layers) - _SHOWN} more" if len(layers) > _SHOWN else ""
    return (
        f"this processor has {feature} and no VNNI, where {row.title} adds pairs of products in int16, which can"
        f" overflow in the layer{'s' * (len(layers) > 1)} {', '.join(layers[:_SHOWN])}{more}; {row.saturation.remedy}"
    )


def _features(target: Target) -> Collection[str]:
    try:
        with target.host.start(target.environment, time_limit=target.time_limit) as connection:
            return connection.probe().features or ()
    except TargetError:
        return ()  # the verdict is valid without it
