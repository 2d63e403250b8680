"""The target an artifact failed on, asked about files made of that artifact."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import TargetError
from edgecnn.targets.target import Target

Array = NDArray[Any]
_ADDED = re.compile(r"(_nchwc|_token_\d+|_quant)+$")
_MOVES = frozenset(("ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear", "Identity", "Transpose"))
"""Operators that ONNX Runtime adds to hand a value out, and that compute nothing new."""
Kernel = tuple[str, str]
"""An operator's kind as the runtime ran it, and its name in the file."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An artifact on a target."""

    bundle: Bundle
    artifact: Artifact
    target: Target

    @property
    def batch_free(self) -> bool:
        """Whether files take several samples at once."""
        return self.bundle.manifest.batch_resizable

    def run(self, data: bytes, what: str, inputs: Sequence[Array]) -> list[Array]:
        """A file's outputs, for inputs (samples, ...) as it stores them.

        Raises:
            TargetError: if it does not open or run there.
        """
        with self.target.open(data, f"{self.artifact.path.name}, {what}") as session:
            if self.batch_free or len(inputs[0]) == 1:
                return list(session.infer(inputs))
            rows = [session.infer([a[i : i + 1] for a in inputs]) for i in range(len(inputs[0]))]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def kernels(self, data: bytes, what: str, inputs: Sequence[Array]) -> Counter[Kernel] | None:
        """The operators that ONNX Runtime really ran, those that only move values left out; None of other runtimes.

        Raises:
            TargetError: if it does not open or run there.
        """
        target = self.target
        if target.runtime != "onnxruntime":
            return None
        options = {"threads": 1, **target.options}
        label = f"{self.artifact.path.name}, {what}"
        with target.host.start(target.environment, time_limit=target.time_limit) as connection:
            session = connection.open(target.runtime, data, label, profile=True, **options)
            session.bind([np.ascontiguousarray(a[:1]) for a in inputs])
            ran = session.profile(1)
        return Counter((o.operator, plain_name(o.name)) for o in ran if o.operator not in _MOVES)

    def features(self) -> frozenset[str]:
        """What the processor there can do; empty where it does not tell."""
        try:
            with self.target.host.start(self.target.environment, time_limit=self.target.time_limit) as connection:
                return frozenset(connection.probe().features or ())
        except TargetError:
            return frozenset()


def plain_name(name: str) -> str:
    """An operator's name in the file, without what ONNX Runtime's passes add to it."""
    return _ADDED.sub("", name.removeprefix("fused "))
