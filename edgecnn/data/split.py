"""Split images reproducibly into a training part and a held-out test part."""

from __future__ import annotations

from typing import Literal, TypeGuard

import numpy as np

from edgecnn.data.dataset import Indices, Labels
from edgecnn.errors import DataError

Split = Literal["train", "test", "all"]

HELD_OUT = 5
"""One image in this many is held out: 20 %."""


def is_split(text: str) -> TypeGuard[Split]:
    """Whether a text is the name of a part."""
    return text in ("train", "test", "all")


def part(split: Split, labels: Labels | None, count: int, seed: int) -> Indices:
    """The places of the images of one part, ascending.

    A fifth of the set, rounded up, is held out, with an equal share of each class as far as whole images allow.

    Args:
        split: "train", "test" (held out) or "all".
        labels: Class numbers, shape (count,), or None if the images have none.
        count: How many images there are.
        seed: Seed of the choice of held-out images. ``train`` and ``test`` of one seed never share an image.

    Raises:
        DataError: if a part would be empty.
    """
    if split == "all":
        return np.arange(count, dtype=np.int64)
    held_out = _held_out(np.zeros(count, np.int64) if labels is None else labels, seed)
    if held_out.all():
        raise DataError(f"{count} image{'s' * (count > 1)} cannot be split into two parts", hint="add images")
    return np.flatnonzero(held_out if split == "test" else ~held_out)


def given_part(split: Split, held_out: Indices, count: int) -> Indices:
    """The places of the images of one part, ascending, if the source itself defines which are held out."""
    match split:
        case "all":
            return np.arange(count, dtype=np.int64)
        case "test":
            return np.sort(held_out)
        case "train":
            return np.setdiff1d(np.arange(count, dtype=np.int64), held_out)


def _held_out(labels: Labels, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    # Raw words of the bit generator, because numpy promises that these never change; permutation() may.
    rank = np.random.PCG64(seed).random_raw(len(labels))
    out = np.zeros(len(labels), np.bool_)
    for number, quota in _quotas(labels).items():
        members = np.flatnonzero(labels == number)
        out[members[np.argsort(rank[members], kind="stable")[:quota]]] = True
    return out


def _quotas(labels: Labels) -> dict[int, int]:
    """How many images of each class are held out, by the largest remainder method."""
    numbers, counts = np.unique(labels, return_counts=True)
    quotas = counts // HELD_OUT
    missing = -(-len(labels) // HELD_OUT) - int(quotas.sum())
    quotas[np.argsort(-(counts % HELD_OUT), kind="stable")[:missing]] += 1
    return dict(zip(numbers.tolist(), quotas.tolist(), strict=True))
