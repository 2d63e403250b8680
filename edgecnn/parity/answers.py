"""What was said to each sample: the best class of an output, of its reference, and the true one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgecnn.parity.metrics import SHOWN
from edgecnn.types import Array

Classes = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstSample:
    """A sample that went wrong.

    Attributes:
        sample: Its place among the samples.
        expected: The reference's best class; None where the output is no row of scores.
        got: The output's.
        label: The true class, where it is known.
        margin: By how much the output's score for ``got`` exceeds its score for ``expected``.
        error: Largest absolute difference of the sample from the reference.
    """

    sample: int
    expected: int | None = None
    got: int | None = None
    label: int | None = None
    margin: float | None = None
    error: float


@dataclass(slots=True)
class Answers:
    """The best classes of rows of scores: six bytes per sample and no more, however large the rows are."""

    _got: list[Classes] = field(default_factory=list)
    _expected: list[Classes] = field(default_factory=list)
    _labels: list[Classes] = field(default_factory=list)
    _worst: list[WorstSample] = field(default_factory=list)
    samples: int = 0

    def add(self, output: Array, reference: Array, labels: Array | None = None) -> None:
        """Take in a batch.

        Args:
            output: Scores, (samples, classes), at most 65,536 of them.
            reference: The reference's scores.
            labels: The true classes, if known: for all batches or for none.
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
    def got(self) -> Classes:
        """The output's best class of each sample."""
        return _joined(self._got)

    @property
    def expected(self) -> Classes:
        """The reference's."""
        return _joined(self._expected)

    @property
    def labels(self) -> Classes | None:
        """The true ones; None where they are not known."""
        return _joined(self._labels) if self._labels else None

    @property
    def worst(self) -> tuple[WorstSample, ...]:
        """Samples with another best class than the reference's, those first that prefer it most."""
        return tuple(self._worst)

    def confusion(self) -> tuple[tuple[int, int, int], ...]:
        """The confusion matrix as (true class, best class, samples), without zeros; empty without labels."""
        labels = self.labels
        if labels is None:
            return ()
        pairs, counts = np.unique(np.stack([labels, self.got]), axis=1, return_counts=True)
        return tuple((int(a), int(b), int(n)) for a, b, n in zip(*pairs, counts, strict=True))


def _joined(parts: list[Classes]) -> Classes:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint16)
