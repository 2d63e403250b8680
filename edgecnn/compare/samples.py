"""The samples for both files: seeded random values, or a data set's images. Memory holds one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.compare.comparison import shown
from edgecnn.compare.reconcile import Inputs, Joined
from edgecnn.compare.shape_mapping import by, elements
from edgecnn.data.dataset import Dataset
from edgecnn.errors import DataError, UsageError
from edgecnn.types import Array

BATCH = 32
"""The most samples at once, where files take any number."""
BATCH_BYTES = 2**26
"""The most bytes of one input at once, which may be fewer samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Samples, batch by batch.

    Attributes:
        words: What they are and how they are drawn, for messages.
        total: How many there are.
        batches: Makes an iterator over them: one array per input, in A's layout, of the values that it stands for.
        notes: What the user should know.
    """

    words: str
    total: int
    batches: Callable[[], Iterator[Sequence[Array]]]
    notes: tuple[str, ...] = ()


def random_feed(inputs: Inputs, ranges: Mapping[str, tuple[float, float]], count: int, seed: int) -> Feed:
    """Seeded random values; each input has a stream of its own, so that the batches do not matter.

    Real values are drawn evenly from a range: the given one, else that which a quantized input can store; without
    either from the standard normal distribution. Integers are drawn evenly from the given range;
    without one, bytes and booleans are drawn from all values of their type.

    Raises:
        UsageError: if nothing says how large integers may be, or a range is beyond what an input can store.
    """
    if count < 1:
        raise UsageError(f"{count} random samples are not possible", hint="--samples 32 or so")
    draws = [_draw(one, ranges.get(one.a[1], ranges.get(""))) for one in inputs.joined]
    size = call_size(inputs)
    calls = -(-count // size) if not inputs.free_batch else None
    total = count if calls is None else calls * size
    words = "; ".join(f"{shown(one.a[1])} {said}" for one, (said, _) in zip(inputs.joined, draws, strict=True))

    def batches() -> Iterator[Sequence[Array]]:
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(len(draws))]
        step = batch_size(inputs)
        for start in range(0, total, step):
            n = min(step, total - start)
            yield [
                draw(stream, _call_shape(inputs, one, n))
                for one, (_, draw), stream in zip(inputs.joined, draws, streams, strict=True)
            ]

    return Feed(words=f"{total} random samples, seed {seed}: {words}", total=total, batches=batches)


def data_feed(inputs: Inputs, data: Dataset) -> Feed:
    """A data set's images for a model of one image input.

    Raises:
        DataError: if the images have another shape than the input.
    """
    one = inputs.joined[0]
    wanted, channels_last = image_shape(inputs), _image_layout(one) == "nhwc"
    if tuple(data.input_shape) != wanted:
        raise DataError(f"{data.name} holds images of {by(data.input_shape)}, A takes {by(wanted)}")
    size = call_size(inputs)
    total = len(data) if inputs.free_batch else len(data) // size * size
    if not total:
        raise DataError(f"{data.name} has {len(data)} images, one call takes {size}", hint="more data")
    left = len(data) - total
    notes = (f"the last {left} images are left out, since one call takes {size}",) if left else ()

    def batches() -> Iterator[Sequence[Array]]:
        done = 0
        for images, _ in data.batches(batch_size(inputs)):
            if done + len(images) <= total:
                yield [images.transpose(0, 2, 3, 1) if channels_last else images]
            done += len(images)

    return Feed(words=data.name, total=total, batches=batches, notes=notes)


def image_shape(inputs: Inputs) -> tuple[int, int, int]:
    """Channels, height and width of A's one image input.

    Raises:
        UsageError: if it has several inputs, or it is not known where its channels are.
    """
    if len(inputs.joined) != 1 or len(inputs.joined[0].fit.shape_a) != 4:
        shapes = " and ".join(by(one.fit.shape_a) for one in inputs.joined)
        raise UsageError(
            f"a data set of images does not fit inputs of {shapes or 'no shape'}",
            hint="leave --data out: both files then get random samples",
        )
    _, *sizes = inputs.joined[0].fit.shape_a
    height, width, channels = sizes if _image_layout(inputs.joined[0]) == "nhwc" else (*sizes[1:], sizes[0])
    return channels, height, width


def _image_layout(one: Joined) -> str:
    """The layout of an image: as known, or the one by which its number of channels is 1 or 3, if only one is."""
    shape = one.fit.shape_a
    if one.fit.layout_a:
        return one.fit.layout_a
    if (shape[1] in (1, 3)) != (shape[3] in (1, 3)):
        return "nchw" if shape[1] in (1, 3) else "nhwc"
    raise UsageError(
        f"is input {one.a[1]!r} of {by(shape)} an image, and where are its channels?",
        hint="--layout-a nchw or --layout-a nhwc, or leave --data out",
    )


def call_size(inputs: Inputs) -> int:
    """Samples of one call: the inputs' common first size where the batch is fixed; 1 where it is free."""
    first = {one.fit.shape_a[0] for one in inputs.joined if one.fit.shape_a}
    return 1 if inputs.free_batch or len(first) != 1 else first.pop()


def batch_size(inputs: Inputs) -> int:
    """Samples that are fed at once."""
    if not inputs.free_batch:
        return call_size(inputs)
    largest = max(elements(one.fit.shape_a[1:]) * 8 for one in inputs.joined)
    return max(1, min(BATCH, BATCH_BYTES // max(largest, 1)))


def _call_shape(inputs: Inputs, one: Joined, samples: int) -> tuple[int, ...]:
    return (samples, *one.fit.shape_a[1:]) if inputs.free_batch else one.fit.shape_a


Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _draw(one: Joined, given: tuple[float, float] | None) -> tuple[str, Draw]:
    """How an input is drawn: in words, and as a function."""
    if not one.numbers_a.is_real:
        return _integers(one, given)
    low_high = given or _storable(one)
    if low_high is None:
        return "standard normal", lambda rng, shape: rng.standard_normal(shape).astype(np.float32)
    low, high = low_high
    where = "" if given else ", what its quantization can store"
    return (
        f"even in {low:.6g} to {high:.6g}{where}",
        lambda rng, shape: rng.uniform(low, high, shape).astype(np.float32),
    )


def _storable(one: Joined) -> tuple[float, float] | None:
    """The range that both files can store, where one of them is quantized."""
    found = [limits for limits in (one.numbers_a.limits(), one.numbers_b.limits()) if limits is not None]
    if not found:
        return None
    low, high = max(low for low, _ in found), min(high for _, high in found)
    if low < high:
        return low, high
    raise UsageError(
        f"input {one.a[1]!r}: the two files can store no value in common",
        why=f"it is {one.numbers_a.words} in A and {one.numbers_b.words} in B",
        hint=f"--range {one.a[1]}=LOW,HIGH to feed them nevertheless",
    )


def _integers(one: Joined, given: tuple[float, float] | None) -> tuple[str, Draw]:
    limits = [limits for limits in (one.numbers_a.limits(), one.numbers_b.limits()) if limits is not None]
    lowest, highest = int(max(low for low, _ in limits)), int(min(high for _, high in limits))
    if given is None and highest - lowest > 255:
        raise UsageError(
            f"input {one.a[1]!r} takes {one.numbers_a.dtype} numbers, and how large they may be is not known",
            hint=f"--range {one.a[1]}=0,9",
        )
    low, high = (lowest, highest) if given is None else (int(given[0]), int(given[1]))
    if given is not None and ((low, high) != given or low < lowest or high > highest):
        raise UsageError(
            f"--range {one.a[1]}={given[0]:g},{given[1]:g} does not suit integers from {lowest} to {highest}"
        )
    return f"integers from {low} to {high}", lambda rng, shape: np.asarray(
        rng.integers(low, high, shape, dtype=np.int64, endpoint=True)
    )
