"""Run an open artifact with inputs and outputs in the model's own layout."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edgecnn.bundle import Artifact, Bundle, Manifest
from edgecnn.errors import DataError, TargetError
from edgecnn.parity.measured import Measured
from edgecnn.parity.sample_sets import Batch, SampleSet
from edgecnn.targets.hosts.reconnect import ReconnectingSession
from edgecnn.targets.hosts.session import Session
from edgecnn.types import Array, Progress

AT_ONCE = 64
"""Samples per call of a runtime; both larger and smaller batches are slower (benchmarks/check_throughput.py)."""


def stored_inputs(manifest: Manifest, artifact: Artifact, inputs: Sequence[Array]) -> list[Array]:
    """Convert inputs (samples, ...) from the model's layout to the layout and types of the artifact."""
    return [
        np.ascontiguousarray(_taken(manifest, artifact, i, array).transpose(spec.axes[artifact.format]))
        for i, (array, spec) in enumerate(zip(inputs, manifest.inputs, strict=True))
    ]


def _taken(manifest: Manifest, artifact: Artifact, i: int, array: Array) -> Array:
    """Convert an input to the artifact's type: unchanged, quantized to integers, or as raw bytes."""
    quantization, spec = artifact.spec.quantization, manifest.inputs[i]
    if quantization is None or quantization.io == "float32":
        return array
    low, dtype = (0, np.uint8) if quantization.io == "uint8" else (-128, np.int8)
    if quantization.raw_bytes and i == 0 and spec.preprocessing is not None:
        integers = spec.preprocessing.undo(array)
    else:
        params = quantization.inputs[spec.name]
        steps = array * (np.float32(1) / np.float32(params.scale))
        integers = np.rint(steps) + params.zero_point + low + 128
    return np.clip(integers, low, low + 255).astype(dtype)


class Runner:
    """Runs an open artifact.

    Raises:
        TargetError: if the artifact's numbers of inputs and outputs differ from its manifest.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, session: Session | ReconnectingSession) -> None:
        self._manifest, self._artifact, self._session = bundle.manifest, artifact, session
        expected = (len(self._manifest.inputs), len(self._manifest.outputs))
        if (len(session.inputs), len(session.outputs)) != expected:
            raise TargetError(
                f"{artifact.path.name} has {len(session.inputs)} inputs and {len(session.outputs)} outputs,"
                f" but its manifest says {expected[0]} and {expected[1]}",
                hint="export the model again",
            )

    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs (samples, ...) in the model's layout."""
        return self._given(self._infer(self._stored(inputs)))

    def infer_each(self, batches: Iterable[Sequence[Array]]) -> Iterator[list[Array]]:
        """Run `infer` on each batch, preparing and sending the next batch while the runtime works on the current one.

        Args:
            batches: The inputs of each batch; single samples if the model's batch is fixed.
        """
        batch = AT_ONCE if self._manifest.batch_resizable else None
        return map(self._given, self._session.infer_each(map(self._stored, batches), batch=batch))

    def _stored(self, inputs: Sequence[Array]) -> list[Array]:
        return stored_inputs(self._manifest, self._artifact, inputs)

    def _infer(self, stored: list[Array]) -> list[Array]:
        """Outputs in the artifact's layout and types, for inputs in its layout and types."""
        if self._manifest.batch_resizable or len(stored[0]) == 1:
            return self._session.infer(stored, batch=AT_ONCE)
        rows = [self._session.infer([a[i : i + 1] for a in stored]) for i in range(len(stored[0]))]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def _given(self, outputs: Sequence[Array]) -> list[Array]:
        """Convert outputs to the model's layout and to real numbers."""
        form = self._artifact.format
        return [
            self._real(spec.name, o.transpose(np.argsort(spec.axes[form])) if o.ndim == len(spec.shape) else o)
            for o, spec in zip(outputs, self._manifest.outputs, strict=True)
        ]

    def _real(self, name: str, array: Array) -> Array:
        """Dequantize an output if it holds integers."""
        quantization = self._artifact.spec.quantization
        if quantization is None or array.dtype.kind == "f":
            return array
        params = quantization.outputs[name]
        zero = params.zero_point + (128 if array.dtype == np.uint8 else 0)
        return (array.astype(np.int32) - zero).astype(np.float32) * np.float32(params.scale)

    def run(
        self, samples: SampleSet, progress: Progress | None, *, where: str = "", rounding: str = ""
    ) -> list[tuple[str, Measured]]:
        """Run a sample set; for each output, return its name and its measurements.

        Args:
            samples: The sample set.
            progress: Told of each batch.
            where: The target's name in progress messages.
            rounding: The runtime's rounding rule for integers.
        """
        specs = self._manifest.outputs
        found = [Measured(scores=i == 0 and len(s.shape) == 2) for i, s in enumerate(specs)]
        found[0].scene = samples.scores()
        asked: deque[Batch] = deque()

        def inputs() -> Iterator[Sequence[Array]]:
            for batch in samples.batches(self._artifact.precision, rounding):
                asked.append(batch)
                yield batch.inputs

        done = 0
        for outputs in self.infer_each(inputs()):
            batch = asked.popleft()
            for i, (output, expected) in enumerate(zip(outputs, batch.expected, strict=True)):
                self._add(found[i], i, output, expected, batch)
            done += len(batch.inputs[0])
            if progress is not None:
                place = f" on {where}" if where else ""
                progress(f"{self._artifact.path.name}{place}, {samples.name}", done, samples.total)
        return [(s.name, m) for s, m in zip(specs, found, strict=True)]

    def _add(self, found: Measured, i: int, output: Array, expected: Array, batch: Batch) -> None:
        name = self._manifest.outputs[i].name
        try:
            labels = self._labels(batch, output) if found.scores else None
            found.add(output, expected, labels)
            if found.scene is not None:
                found.scene.add(output, expected, np.arange(batch.start, batch.start + len(output)))
            if batch.own is not None and batch.own[i].dtype.kind == "f":
                found.add_own(output, batch.own[i])
            elif batch.own is not None:
                found.add_integers(self._integers(name, output), batch.own[i])
        except ValueError as err:
            raise TargetError(
                f"{self._artifact.path.name} returns an output {name} that contradicts its manifest: {err}",
                hint="export the model again",
            ) from err

    @staticmethod
    def _labels(batch: Batch, output: Array) -> Array | None:
        if batch.labels is not None and len(batch.labels) and batch.labels.max() >= output.shape[1]:
            raise DataError(
                f"the data has the label {batch.labels.max()}, but the model has {output.shape[1]} outputs",
                hint="labels from 0 to one less than the model's outputs, or data without labels",
            )
        return batch.labels

    def _integers(self, name: str, output: Array) -> Array:
        """Quantize a dequantized output again, to recover its integers."""
        quantization = self._artifact.spec.quantization
        if quantization is None or name not in quantization.outputs:
            raise TargetError(
                f"the manifest has no parameters for output {name} of {self._artifact.path.name}",
                hint="export the model again",
            )
        params = quantization.outputs[name]
        return np.rint(output.astype(np.float64) / params.scale) + params.zero_point
