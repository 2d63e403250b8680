"""Measure how near a quantized graph is to its float graph, quickly and for many choices of float layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgecnn.graph.analysis import macs
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.graph.verify import batch_is_free
from edgecnn.parity.statistics import paired_drop
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.quantize import float_nodes
from edgecnn.types import Array, Progress

Values = Mapping[ValueName, Array]
CHUNK = 32
"""Samples that are executed at once."""
ROOM = 1 << 28
"""The most bytes of values that are kept so that they need not be computed again."""
BOUND = 0.975
"""Confidence of each end of an interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A choice of what is computed in float.

    Attributes:
        floats: Names of the nodes.
        real_inputs: Whether the graph's inputs are float too, or else rounded to their integers.
    """

    floats: frozenset[ValueName]
    real_inputs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyChange:
    """Difference of two accuracies on the same samples, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How near outputs are to those of the float graph.

    Attributes:
        noise: Power of the difference as a share of the float outputs' power; of several outputs, the worst one's.
        accuracy: Share of samples with the right class; None without labels.
        change: The accuracy less the float graph's; None without labels.
    """

    noise: float
    accuracy: float | None = None
    change: AccuracyChange | None = None

    @property
    def snr(self) -> float:
        """Signal to noise in dB; infinite for no difference."""
        return -10 * math.log10(self.noise) if self.noise else math.inf


def paired_change(new: npt.NDArray[np.bool_], old: npt.NDArray[np.bool_]) -> AccuracyChange:
    """Difference of two shares of right answers to the same questions; the interval is Tango's (`paired_drop`)."""
    found = paired_drop(int((old & ~new).sum()), int((new & ~old).sum()), len(new), BOUND)
    return AccuracyChange(value=0 - found.value, low=0 - found.high, high=0 - found.low)


class Evaluator:
    """Executes variants of one quantized graph on the same samples, in the golden executors.

    Values that do not depend on the nodes in which variants differ come from one execution of the whole graph.

    Args:
        q: The quantized graph.
        inputs: One float32 array per graph input, (samples, ...).
        labels: The true classes, (samples,), where they are known; the first output is then taken for their scores.
    """

    def __init__(self, q: QuantizedGraph, inputs: Sequence[Array], labels: npt.NDArray[np.int64] | None = None) -> None:
        self._q, self._inputs = q, [np.asarray(a, np.float32) for a in inputs]
        scores = len(q.graph.shapes[q.graph.outputs[0].value]) == 2
        self._labels = labels if scores else None
        self._macs = {n.name: macs(q.graph, n) for n in q.graph.nodes}
        self.reference = Variant(float_nodes(q.graph, frozenset(n.name for n in q.graph.nodes)), real_inputs=True)
        self.whole = Variant(q.skipped)
        self._bases: dict[tuple[Variant, int], Values] = {}
        self._room = ROOM
        self.programs = 0
        """Variants executed so far."""
        self.work = 0.0
        """Multiply-accumulates executed so far, in those of one execution of the whole."""

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self._inputs[0])

    def measure(self, variants: Sequence[Variant], progress: Progress | None = None) -> list[Quality]:
        """The quality of each variant; all variants run on one chunk of samples before the next chunk."""
        tallies = [_Tally() for _ in variants]
        size = CHUNK if batch_is_free(self._q.graph) else 1
        for start in range(0, self.samples, size):
            part = slice(start, start + size)
            expected = self._outputs(self._base(self.reference, part))
            labels = None if self._labels is None else self._labels[part]
            for i, (variant, tally) in enumerate(zip(variants, tallies, strict=True)):
                base = self.reference if variant.real_inputs else self.whole
                known = _unchanged(self._q.graph, self._base(base, part), variant.floats ^ base.floats)
                tally.add(self._outputs(self._execute(variant, part, known)), expected, labels)
                if progress is not None:
                    done = start * len(variants) + (i + 1) * len(expected[0])
                    progress("layer by layer", done, self.samples * len(variants))
        self.programs += len(variants)
        return [tally.quality() for tally in tallies]

    def _base(self, variant: Variant, part: slice) -> Values:
        """All values of the float or the quantized graph, kept for further variants as far as memory allows."""
        key = variant, part.start
        if key not in self._bases:
            values = self._execute(variant, part, {})
            if self._room < 0:
                self._bases.clear()
                self._room = ROOM
            self._bases[key] = values
            self._room -= sum(value.nbytes for value in values.values())
        return self._bases[key]

    def _execute(self, variant: Variant, part: slice, known: Values) -> Values:
        from edgecnn.golden.integer import execute_integer

        inputs: list[Array] = [a[part] for a in self._inputs]
        q = replace(self._q, skipped=variant.floats)
        if not variant.real_inputs:
            inputs = [q.activations[i.name].quantize(a) for i, a in zip(q.graph.inputs, inputs, strict=True)]
        done = sum(count for name, count in self._macs.items() if name not in known)
        self.work += done / (sum(self._macs.values()) or 1) * len(inputs[0]) / self.samples
        return execute_integer(q, inputs, known=known)

    def _outputs(self, values: Values) -> list[Array]:
        from edgecnn.golden.float_layers import as_real

        return [as_real(self._q, o.value, values[o.value]) for o in self._q.graph.outputs]


def _unchanged(graph: Graph, values: Values, changed: frozenset[ValueName]) -> Values:
    """The values that depend on no changed node."""
    stale = set(changed)
    for node in graph.nodes:
        if stale.intersection(node.inputs):
            stale.add(node.name)
    return {name: value for name, value in values.items() if name not in stale}


class _Tally:
    """Sums over the samples seen."""

    def __init__(self) -> None:
        self._noise: npt.NDArray[np.float64] | float = 0.0
        self._power: npt.NDArray[np.float64] | float = 0.0
        self._right: list[Array] = []
        self._reference_right: list[Array] = []

    def add(self, outputs: Sequence[Array], expected: Sequence[Array], labels: Array | None) -> None:
        wide = [(o.astype(np.float64), e.astype(np.float64)) for o, e in zip(outputs, expected, strict=True)]
        self._noise = self._noise + np.array([((o - e) ** 2).sum() for o, e in wide])
        self._power = self._power + np.array([(e**2).sum() for _, e in wide])
        if labels is not None:
            self._right.append(outputs[0].argmax(1) == labels)
            self._reference_right.append(expected[0].argmax(1) == labels)

    def quality(self) -> Quality:
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = float(np.max(np.where(self._noise == 0, 0.0, np.divide(self._noise, self._power))))
        if not self._right:
            return Quality(noise=noise)
        right, reference = np.concatenate(self._right), np.concatenate(self._reference_right)
        return Quality(noise=noise, accuracy=float(right.mean()), change=paired_change(right, reference))
