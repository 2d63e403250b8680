"""Run both files on their runtimes with equal samples."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from edgecnn.compare.comparison import CompareReport, Comparison, shown
from edgecnn.compare.metric_limits import broken, measured
from edgecnn.compare.places import Given, Ran, places
from edgecnn.compare.reconcile import Inputs, Joined, OpenedFile, Options, join_inputs, join_outputs
from edgecnn.compare.samples import Feed, random_feed
from edgecnn.compare.shape_mapping import Shape, elements
from edgecnn.compare.source import SourceFile, read_source
from edgecnn.errors import TargetError
from edgecnn.parity.metrics import Difference
from edgecnn.parity.verdict import Unjudged
from edgecnn.targets.hosts.reconnect import ReconnectingSession
from edgecnn.targets.target import Target
from edgecnn.types import Array, Progress

MakeFeed = Callable[[Inputs], Feed]
MAX_SAMPLE = 2**25
"""The most values of one output for one sample; measuring them takes some 2 GiB."""
SLICE = 2**22
"""Values of several samples that are measured at once, where one sample has fewer."""


def compare_files(
    a: str | os.PathLike[str] | SourceFile,
    b: str | os.PathLike[str] | SourceFile,
    *,
    options: Options | None = None,
    feed: MakeFeed | None = None,
    targets: Given = (),
    targets_a: Given = (),
    targets_b: Given = (),
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> CompareReport:
    """Run two .onnx or .tflite files of any origin on the same samples, and measure how far B's outputs are from A's.

    Args:
        a: The reference: a path, or what `read_source` gives.
        b: The file that is compared with it.
        options: How they are reconciled, and the limits.
        feed: Makes the samples for the reconciled inputs; by default `random_feed`.
        targets: Where to run, for both files; each target takes the files whose format it runs. By default the first
            runtime installed here that runs the format.
        targets_a: Where to run A instead.
        targets_b: Where to run B instead.
        time_limit: Seconds for one answer of a runtime; None for 60, on emulated boards 600.
        progress: Receives each batch.

    Raises:
        EdgecnnError: if a file cannot be read, a target is wrong, the two cannot be reconciled, or the only pair
            of targets fails. With several pairs, what fails is in the report.
    """
    options = options or Options()
    sources = tuple(one if isinstance(one, SourceFile) else read_source(one) for one in (a, b))
    found = places(sources[0], sources[1], targets, targets_a, targets_b, time_limit)
    run = _Run(sources[0], sources[1], options, feed, progress)
    notes = [note for source in sources for note in source.facts.notes]
    done: list[_Done] = []
    lost = [Unjudged(target=f.target, artifact="", error=f.error) for f in found.failures]
    for pair in found.pairs:
        try:
            done.append(run.on(pair))
        except TargetError as err:
            if len(found.pairs) == 1 and not lost:
                raise
            lost.append(Unjudged(target=f"{pair.a.name} and {pair.b.name}", artifact="", error=err))
    return CompareReport(
        a=str(sources[0].path),
        b=str(sources[1].path),
        sha256_a=hashlib.sha256(sources[0].data).hexdigest(),
        sha256_b=hashlib.sha256(sources[1].data).hexdigest(),
        samples_from=done[0].feed.words if done else "",
        reconciled=tuple(dict.fromkeys(line for d in done for line in d.reconciled)),
        limits=dict(options.limits),
        comparisons=tuple(c for d in done for c in d.comparisons),
        unjudged=tuple(lost),
        notes=tuple(dict.fromkeys([*notes, *found.notes, *(n for d in done for n in d.notes)])),
    )


@dataclass(frozen=True, slots=True)
class _Done:
    feed: Feed
    reconciled: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Output:
    """An output of both files, and its difference so far."""

    joined: Joined
    difference: Difference = field(default_factory=Difference)
    misfit: str = ""

    def add(self, a: Array, b: Array, samples: int) -> None:
        """Add the outputs of A and B for a number of samples."""
        one = self.joined
        try:
            b_as_a = one.fit.to_a(b)
        except ValueError:
            b_as_a = b
        if b_as_a.shape != a.shape:
            place = self.difference.samples
            self.misfit = self.misfit or f"from sample {place} on, A gives the shape {a.shape} and B {b.shape}"
            return
        shape = _sample_shape(a.shape, samples)
        size = elements(shape[1:])
        if size > MAX_SAMPLE:
            raise TargetError(f"output {one.a[1]!r} gives {size:,} values a sample", why=f"the limit is {MAX_SAMPLE:,}")
        step = max(1, SLICE // max(size, 1))
        for start in range(0, shape[0], step):
            ours, theirs = (array.reshape(shape)[start : start + step] for array in (a, b_as_a))
            self.difference.add(_numbers(one.numbers_b.real(theirs)), _numbers(one.numbers_a.real(ours)))


def _sample_shape(shape: Shape, samples: int) -> Shape:
    """The shape as (samples, ...), of rank 2 for rows of scores; one without an axis for samples is one sample."""
    if not shape or shape[0] != samples:
        return 1, elements(shape)
    row = sum(size != 1 for size in shape[1:]) == 1
    return (samples, elements(shape[1:])) if row else shape


def _numbers(array: Array) -> Array:
    return array.astype(np.int8) if array.dtype == np.bool_ else array


class _Run:
    """The comparison of two files, pair of targets by pair."""

    def __init__(
        self, a: SourceFile, b: SourceFile, options: Options, feed: MakeFeed | None, progress: Progress | None
    ) -> None:
        self._a, self._b, self._options = a, b, options
        self._feed = feed or (lambda inputs: random_feed(inputs, options.ranges, options.samples, options.seed))
        self._progress = progress or (lambda _text, _done, _total: None)
        self._identical = a.data == b.data

    def on(self, pair: Ran) -> _Done:
        """Compare them on a pair of targets."""
        with ExitStack() as stack:
            session_a, session_b = (
                stack.enter_context(_opened(target, source))
                for target, source in ((pair.a, self._a), (pair.b, self._b))
            )
            a, b = (
                OpenedFile(inputs=s.inputs, outputs=s.outputs, facts=source.facts, side=side, identical=self._identical)
                for s, source, side in (
                    (session_a, self._a, self._options.a),
                    (session_b, self._b, self._options.b),
                )
            )
            inputs = join_inputs(a, b, self._options)
            feed = self._feed(inputs)
            outputs = self._measure((session_a, session_b), (a, b), inputs, feed)
            notes = (*feed.notes, *session_a.notes, *session_b.notes, *_left_out(a, b, outputs))
            versions = (session_a.version, session_b.version)
        reconciled = [one.words("input") for one in inputs.joined] + [o.joined.words("output") for o in outputs]
        return _Done(
            feed=feed,
            reconciled=tuple(reconciled),
            comparisons=tuple(_judged(o, pair, versions, self._options) for o in outputs),
            notes=notes,
        )

    def _measure(
        self,
        sessions: tuple[ReconnectingSession, ReconnectingSession],
        opened: tuple[OpenedFile, OpenedFile],
        inputs: Inputs,
        feed: Feed,
    ) -> list[_Output]:
        outputs: list[_Output] = []
        done = 0
        for values in feed.batches():
            stored_a = [one.numbers_a.stored(v) for one, v in zip(inputs.joined, values, strict=True)]
            stored_b = [one.fit.to_b(one.numbers_b.stored(v)) for one, v in zip(inputs.joined, values, strict=True)]
            with _batch_hint(inputs):
                given_a = sessions[0].infer(_in_order(stored_a, [one.a[0] for one in inputs.joined]))
                given_b = sessions[1].infer(_in_order(stored_b, [one.b[0] for one in inputs.joined]))
            if not outputs:
                shapes_a, shapes_b = ([o.shape for o in given] for given in (given_a, given_b))
                outputs = [_Output(j) for j in join_outputs(*opened, shapes_a, shapes_b, self._options)]
            samples = _samples(values)
            for output in outputs:
                output.add(given_a[output.joined.a[0]], given_b[output.joined.b[0]], samples)
            done += samples
            self._progress(f"{self._a.name} and {self._b.name}", done, feed.total)
        return outputs


def _samples(values: Sequence[Array]) -> int:
    """How many samples a batch holds; inputs without a common first axis are one sample."""
    if not values:
        return 1
    first = {v.shape[0] if v.ndim else 1 for v in values}
    return first.pop() if len(first) == 1 else 1


@contextmanager
def _opened(target: Target, source: SourceFile) -> Iterator[ReconnectingSession]:
    """Open a file; where that fails, name custom operators as the likely cause."""
    with ExitStack() as stack:
        try:
            session = stack.enter_context(target.open(source.data, source.name))
        except TargetError as err:
            if source.facts.custom:
                names = ", ".join(source.facts.custom)[:400]
                err.why = "\n".join(part for part in (err.why, f"it has operators of its own: {names}") if part)
                err.hint = err.hint or "a runtime that has them, or the model without them"
            elif "NOT_IMPLEMENTED" in err.message:
                err.hint = err.hint or "if the file's opset is an old one: onnx.version_converter.convert_version"
            raise
        yield session


@contextmanager
def _batch_hint(inputs: Inputs) -> Iterator[None]:
    try:
        yield
    except TargetError as err:
        if inputs.free_batch and not err.hint:
            one = inputs.joined[0]
            shape = "x".join(map(str, (1, *one.fit.shape_a[1:])))
            err.hint = f"--shape {one.a[1]}={shape} if the model takes one sample at a time"
        raise


def _in_order(arrays: Sequence[Array], places_: Sequence[int]) -> list[Array]:
    ordered: list[Array] = [np.empty(0)] * len(arrays)
    for array, place in zip(arrays, places_, strict=True):
        ordered[place] = array
    return ordered


def _left_out(a: OpenedFile, b: OpenedFile, outputs: Sequence[_Output]) -> list[str]:
    notes = []
    for letter, opened in (("a", a), ("b", b)):
        taken = {getattr(o.joined, letter)[0] for o in outputs}
        left = [t.name for i, t in enumerate(opened.outputs) if i not in taken]
        if left:
            notes.append(f"outputs that only {letter.upper()} has are left out: {', '.join(map(shown, left))}")
    return notes


def _judged(output: _Output, pair: Ran, versions: tuple[str, str], options: Options) -> Comparison:
    metrics = measured(output.difference)
    reason = output.misfit or broken(metrics, options.limits)
    return Comparison(
        output=output.joined.a[1],
        output_b=output.joined.b[1],
        target_a=pair.a.name,
        target_b=pair.b.name,
        version_a=versions[0],
        version_b=versions[1],
        samples=output.difference.samples,
        metrics=metrics,
        worst=tuple(output.difference.worst),
        passed=False if reason else True if options.limits else None,
        reason=reason,
    )
