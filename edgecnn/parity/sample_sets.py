"""Samples with reference outputs and labels, batch by batch: golden inputs, arrays, or a streamed data set."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.bundle import REFERENCE, Bundle, Golden
from edgecnn.data.dataset import Dataset
from edgecnn.errors import DataError, ModelError
from edgecnn.parity.disk_arrays import DiskArrays
from edgecnn.parity.golden_rules import STANDS_FOR
from edgecnn.parity.scene_scores import SceneScores
from edgecnn.training.tasks import Classes, task_of
from edgecnn.types import Array

Reference = Callable[[Sequence[Array]], Sequence[Array]]
MOST = 256
"""Largest number of samples in one request."""
BYTES = 2**20 - 2**12
"""Largest size of one request's inputs. With its header it fits a pipe, so that it can be sent ahead."""
_RECENT = 4
"""Number of batches that are kept for artifacts that run in parallel."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of samples with reference outputs and labels.

    Attributes:
        start: Index of the first sample.
        inputs: One array per input, (samples, ...).
        expected: Outputs of the float reference, one array per output.
        labels: True classes, if known.
        own: Outputs of the reference of the artifact's own precision, if there is one: integers, or floats for fp16.
    """

    start: int
    inputs: Sequence[Array]
    expected: Sequence[Array]
    labels: Array | None = None
    own: Sequence[Array] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Samples together with the outputs of the references.

    Attributes:
        name: The origin of the samples, for the report.
        reference: Name of the reference.
        total: Number of samples.
        on_data: Whether the samples come from a data set.
        batches: Yields the batches for a precision and a rounding rule.
        digest: SHA-256 of the samples; complete once all batches have been read.
        scores: Creates the scorer of the first output, if the data has objects or masks.
    """

    name: str
    reference: str
    total: int
    on_data: bool
    batches: Callable[[str, str], Iterator[Batch]]
    digest: Callable[[], str]
    scores: Callable[[], SceneScores | None] = lambda: None


def batch_size(bundle: Bundle) -> int:
    """Samples in one request: enough to make the cost of messages negligible, in little memory; 1 for a fixed batch.

    It depends only on the model, because float sums may differ in the last bit between batch sizes.
    """
    if not bundle.manifest.batch_resizable:
        return 1
    sample = sum(4 * int(np.prod(i.shape[1:])) for i in bundle.manifest.inputs)
    return max(1, min(MOST, BYTES // max(sample, 1)))


def golden_sample_set(bundle: Bundle, reference: Reference | None = None) -> SampleSet:
    """The bundle's golden inputs, with the outputs of the torch model and of the integer reference at export.

    Args:
        bundle: The bundle.
        reference: Computes the float outputs; by default they are those of the torch model at export.
    """
    golden = bundle.golden()
    inputs = [golden.inputs[i.name] for i in bundle.manifest.inputs]
    names = [o.name for o in bundle.manifest.outputs]
    said = [golden.outputs[REFERENCE][n] for n in names] if reference is None else reference(inputs)
    size = batch_size(bundle)

    def batches(precision: str, rounding: str) -> Iterator[Batch]:
        own = None if precision == REFERENCE else golden_by_rule(golden, precision, rounding)
        for start in range(0, golden.samples, size):
            part = slice(start, start + size)
            yield Batch(
                start=start,
                inputs=[a[part] for a in inputs],
                expected=[a[part] for a in said],
                labels=None if golden.labels is None else golden.labels[part],
                own=None if own is None else [own[n][part] for n in names],
            )

    return SampleSet(
        name=f"{golden.samples} golden inputs",
        reference="torch",
        total=golden.samples,
        on_data=False,
        batches=batches,
        digest=lambda: _digest([*inputs, *([] if golden.labels is None else [golden.labels])]),
    )


def golden_by_rule(golden: Golden, precision: str, rounding: str) -> Mapping[str, Array] | None:
    """The golden outputs of a precision under a rounding rule, or under an equivalent rule."""
    while rounding in STANDS_FOR:
        if (own := golden.outputs.get(f"{precision}-{rounding}")) is not None:
            return own
        rounding = STANDS_FOR[rounding]
    return golden.outputs.get(precision)


def _digest(arrays: Sequence[Array]) -> str:
    """SHA-256 of the samples, without the outputs, whose last bits differ between machines."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def array_sample_set(
    bundle: Bundle, inputs: Sequence[Array], reference: Reference, labels: Array | None = None
) -> SampleSet:
    """A sample set of arrays in memory, one per input.

    Args:
        bundle: The bundle.
        inputs: Arrays of shape (samples, ...), in the model's layout.
        reference: Called once, with all samples.
        labels: True classes, (samples,).

    Raises:
        DataError: if their shapes are not those of the model's inputs.
    """
    wanted = [tuple(i.shape[1:]) for i in bundle.manifest.inputs]
    counts = {len(a) for a in [*inputs, *([] if labels is None else [labels])] if a.ndim}
    if [a.shape[1:] for a in inputs] != wanted or len(counts) != 1:
        raise DataError(
            f"inputs of {' and '.join('x'.join(map(str, a.shape)) for a in inputs)} do not fit {bundle.manifest.name}",
            hint=f"as many samples for each of {' and '.join('Nx' + 'x'.join(map(str, s)) for s in wanted)}",
        )
    said, size, total = reference(inputs), batch_size(bundle), counts.pop()

    def batches(_precision: str, _rounding: str) -> Iterator[Batch]:
        for start in range(0, total, size):
            part = slice(start, start + size)
            yield Batch(
                start=start,
                inputs=[a[part] for a in inputs],
                expected=[a[part] for a in said],
                labels=None if labels is None else labels[part],
            )

    digest = _digest(inputs)
    name = f"{total} sample{'s' * (total != 1)}"
    return SampleSet(name=name, reference="torch", total=total, on_data=True, batches=batches, digest=lambda: digest)


@contextmanager
def data_sample_set(bundle: Bundle, data: Dataset, reference: Reference, name: str) -> Iterator[SampleSet]:
    """A streamed data set. The reference runs once per batch, and its outputs are kept in a temporary file.

    Args:
        bundle: The bundle.
        data: Images that fit the model's one input; see `check_fits`.
        reference: One array per input in, one per output out.
        name: Name of the reference.
    """
    shared = _SharedBatches(data, batch_size(bundle), reference)
    output = bundle.manifest.outputs[0].shape

    def scores() -> SceneScores | None:
        task = None if data.truth is None else _scene_task(data, output)
        return None if task is None or isinstance(task, Classes) else SceneScores(task, data)

    with closing(shared):
        yield SampleSet(
            name=data.name,
            reference=name,
            total=len(data),
            on_data=True,
            batches=lambda _precision, _rounding: shared.batches(),
            digest=shared.digest,
            scores=scores,
        )


def check_fits(bundle: Bundle, data: Dataset) -> None:
    """Refuse a data set whose images do not fit the model's input.

    Raises:
        DataError: if the shapes differ; the error names both.
    """
    inputs = bundle.manifest.inputs
    if len(inputs) != 1 or tuple(inputs[0].shape[1:]) != tuple(data.input_shape):
        raise DataError(
            f"{data.name} holds images of {'x'.join(map(str, data.input_shape))},"
            f" the model takes {' and '.join('x'.join(map(str, i.shape[1:])) for i in inputs)}",
            hint="a data set of the model's input shape",
        )


def _scene_task(data: Dataset, output_shape: Sequence[int]) -> Any:
    try:
        return task_of(data, output_shape)
    except ModelError:  # the model predicts something else; it is still compared with its reference
        return None


class _SharedBatches:
    """Batches of a data set for artifacts that run in parallel; each batch is loaded once while they keep pace."""

    def __init__(self, data: Dataset, size: int, reference: Reference) -> None:
        self._data, self._size, self._reference = data, size, reference
        self._answers = DiskArrays()
        self._recent: OrderedDict[int, Batch] = OrderedDict()
        self._seen = 0
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()

    def batches(self) -> Iterator[Batch]:
        """All batches in order."""
        for start in range(0, len(self._data), self._size):
            yield self._batch(start)

    def digest(self) -> str:
        """SHA-256 of all samples that were read."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close and thereby delete the temporary files."""
        self._answers.close()

    def _batch(self, start: int) -> Batch:
        with self._lock:
            if start not in self._recent:
                self._recent[start] = self._made(start)
                if len(self._recent) > _RECENT:
                    self._recent.popitem(last=False)
            return self._recent[start]

    def _made(self, start: int) -> Batch:
        stop = min(start + self._size, len(self._data))
        images = self._data.batch(np.arange(start, stop))
        if start == self._seen:  # all artifacts read in order, so the first reader is the first for every batch
            self._answers.append(self._reference([images]))
            self._hash.update(np.ascontiguousarray(images).data)
            self._seen = stop
        labels = None if self._data.labels is None else self._data.labels[start:stop]
        return Batch(start=start, inputs=[images], expected=self._answers.read(start, stop), labels=labels)
