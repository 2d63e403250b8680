"""Best class per sample: that of an artifact's output, that of its reference, and the true class."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgecnn.parity.metrics import SHOWN
from edgecnn.types import Array

ClassIndices = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstSample:
    """A sample on which an artifact differs strongly from the reference.

    Attributes:
        sample: Index of the sample in its data set.
        expected: Best class of the reference; None if the output is not a row of class scores.
        got: Best class of the output; None if the output is not a row of class scores.
        label: True class, if known.
        margin: The output's score for ``got`` minus its score for ``expected``.
        error: Largest absolute difference between output and reference on this sample.
    """

    sample: int
    expected: int | None = None
    got: int | None = None
    label: int | None = None
    margin: float | None = None
    error: float


@dataclass(slots=True)
class BestClasses:
    """Best classes of outputs that are rows of scores. Stores six bytes per sample, whatever the number of classes."""

    _got: list[ClassIndices] = field(default_factory=list)
    _expected: list[ClassIndices] = field(default_factory=list)
    _labels: list[ClassIndices] = field(default_factory=list)
    _worst: list[WorstSample] = field(default_factory=list)
    samples: int = 0

    def add(self, output: Array, reference: Array, labels: Array | None = None) -> None:
        """Add a batch.

        Args:
            output: Scores, (samples, classes), with at most 65,536 classes.
            reference: Scores of the reference, (samples, classes).
            labels: True classes, (samples,), if known; given for all batches or for none.
        """
        got, expected = output.argmax(1), reference.argmax(1)
        self._got.append(got.astype(np.uint16))
        self._expected.append(expected.astype(np.uint16))
        if labels is not None:
            self._labels.append(labels.astype(np.uint16))
        other = np.flatnonzero(got != expected)
        if len(other):
            self._add_worst(other, output, reference, labels)
        self.samples += len(output)

    def _add_worst(self, places: Array, output: Array, reference: Array, labels: Array | None) -> None:
        rows = output[places].astype(np.float64)
        got, expected = rows.argmax(1), reference[places].argmax(1)
        each = np.arange(len(places))
        margins = rows[each, got] - rows[each, expected]
        with np.errstate(invalid="ignore"):
            errors = np.abs(rows - reference[places]).max(1)
        new = [
            WorstSample(
                sample=self.samples + int(places[i]),
                expected=int(expected[i]),
                got=int(got[i]),
                label=None if labels is None else int(labels[places[i]]),
                margin=float(margins[i]),
                error=float(errors[i]),
            )
            for i in np.argsort(-margins, kind="stable")[:SHOWN]
        ]
        self._worst = sorted([*self._worst, *new], key=lambda w: (-(w.margin or 0.0), w.sample))[:SHOWN]

    @property
    def got(self) -> ClassIndices:
        """Best class of the output, per sample."""
        return _joined(self._got)

    @property
    def expected(self) -> ClassIndices:
        """Best class of the reference, per sample."""
        return _joined(self._expected)

    @property
    def labels(self) -> ClassIndices | None:
        """True class per sample; None if unknown."""
        return _joined(self._labels) if self._labels else None

    @property
    def worst(self) -> tuple[WorstSample, ...]:
        """Samples whose best class differs from the reference's, sorted by decreasing margin."""
        return tuple(self._worst)

    def confusion(self) -> tuple[tuple[int, int, int], ...]:
        """Non-zero cells of the confusion matrix, as (true class, best class, samples); empty without labels."""
        labels = self.labels
        if labels is None:
            return ()
        pairs, counts = np.unique(np.stack([labels, self.got]), axis=1, return_counts=True)
        return tuple((int(a), int(b), int(n)) for a, b, n in zip(*pairs, counts, strict=True))


def _joined(parts: list[ClassIndices]) -> ClassIndices:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint16)
